"""Reads any real input file as rows, and writes results that a spreadsheet opens correctly."""

from producer.sheet.leaving import LEFT_OUT, Leaving
from producer.sheet.row import Choice, Note, Row, SheetError
from producer.sheet.sheet import Corrections, Sheet, open_sheet
from producer.sheet.writing import SheetWriter, written_file

__all__ = [
    "LEFT_OUT",
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
