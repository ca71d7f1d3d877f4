"""Reading any real input file as rows, and writing results that a spreadsheet opens rightly."""

from producer.sheet.row import Problem, Row, SheetError
from producer.sheet.sheet import Sheet, open_sheet
from producer.sheet.writing import SheetWriter, written_file

__all__ = ["Problem", "Row", "Sheet", "SheetError", "SheetWriter", "open_sheet", "written_file"]
