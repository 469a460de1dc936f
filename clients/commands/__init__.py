"""The commands of `trauma-transfer`, one room a file."""
