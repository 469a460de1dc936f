"""Import: a folder, a file or a ZIP of DICOM, taken into `incoming` as if it had come by C-STORE."""

from clients.gateway.intake.found import Found, Limits, Skipped
from clients.gateway.intake.paths import stage_all, walk
from clients.gateway.intake.staging import StagedFile, stage

__all__ = ["Found", "Limits", "Skipped", "StagedFile", "stage", "stage_all", "walk"]
