"""The world outside this hospital: the relay and the paired sites, by outbound HTTPS only."""
