"""Reads any real input file as rows, and writes results that a spreadsheet opens correctly."""

from producer.sheet.leaving import Leaving
from producer.sheet.row import FAULTS, Choice, Note, Row, SheetError
from producer.sheet.sheet import Corrections, Sheet, open_sheet
from producer.sheet.writing import SheetWriter, written_file

__all__ = [
    "FAULTS",
    "Choice",
    "Corrections",
    "Leaving",
    "Note",
    "Row",
    "Sheet",
    "SheetError",
    "SheetWriter",
    "open_sheet",
    "written_file",
]
