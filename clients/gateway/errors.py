"""What can go wrong inside one hospital, beside the protocol's own errors (`transfer.errors`).

    GatewayError              code, sentence, next step: shown to staff, printed by the command line
    +-- ConfigError           `config`
    +-- IntakeError           an instance or a path is refused; `code` says why (`dicom-...`, `import-...`)
    +-- AbsentError           `absent`
    +-- BusyError             `busy`
    +-- ImportingError        `importing`
    +-- DiskFullError         `disk-full`
    +-- RelayDownError        `relay-down`
    `-- PacsDownError         `pacs-down`

The class docstring is the sentence. No error carries a patient's name, a UID, a PIN or a key.
"""

from __future__ import annotations


class GatewayError(Exception):
    """Something went wrong in this gateway. Try again, and call your PACS administrator if it stays."""

    code = "gateway"

    def __init__(self, sentence: str = "", *, code: str = "") -> None:
        if code:
            self.code = code
        self.sentence = sentence or " ".join((type(self).__doc__ or "").split())
        super().__init__(f"{self.code}: {self.sentence}")


class ConfigError(GatewayError):
    """The configuration file has a value that cannot be used. Correct it and start again."""

    code = "config"


class IntakeError(GatewayError):
    """A file was refused because it is not usable DICOM. Send it again from its source."""

    code = "dicom-refused"


class AbsentError(GatewayError):
    """There is nothing under this name here. Reload the list and choose again."""

    code = "absent"


class BusyError(GatewayError):
    """Another program holds this gateway's folder. Stop it, or work through it."""

    code = "busy"


class ImportingError(GatewayError):
    """Images of this study are still being read from their path. It closes by itself when the last one is here."""

    code = "importing"


class DiskFullError(GatewayError):
    """The gateway's disk is full. Nothing was lost: free some space and the work goes on by itself."""

    code = "disk-full"


class RelayDownError(GatewayError):
    """The relay cannot be reached. The gateway keeps trying; check the network if this stays."""

    code = "relay-down"


class PacsDownError(GatewayError):
    """The PACS does not answer. The gateway keeps trying; check the PACS and its address."""

    code = "pacs-down"


def leaf(why: BaseException) -> BaseException:
    """The first error of a group, however deep; any other error itself."""
    return leaf(why.exceptions[0]) if isinstance(why, BaseExceptionGroup) else why
