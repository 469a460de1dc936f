"""A generated CT study for demonstrations, drills and tests: nobody's, and marked so everywhere."""

from clients.phantom.study import StudyInfo, write_study

__all__ = ["StudyInfo", "write_study"]
