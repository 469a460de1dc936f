"""DICOM inside the hospital: what receives (SCP), what sends (SCU), and what a file says of itself.

pynetdicom runs in child processes only, each behind a `Door`; nothing in this process waits for a peer's
socket.
"""
