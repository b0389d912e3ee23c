"""Writes the example inbox: what merchants and insurers really send, ugliness included.

Run with Python 3.11, openpyxl and xlwt; the files are checked in, so nobody needs to. The output is
the same every time: dates inside the workbooks are fixed.
"""

import datetime
import random
from pathlib import Path

import openpyxl
import xlwt
from openpyxl.styles import Font

HERE = Path(__file__).parent / "inbox"
ITEMS = [
    ("000417", "Paracetamol 500 mg", "strip", 5200),
    ("000981", "Amoxicillin 500 mg", "strip", 11500),
    ("001204", "Salbutamol inhaler", "pcs", 48750),
    ("001377", "Vitamin C 1000 mg", "tube", 39900),
    ("002218", "Metformin 850 mg", "strip", 7400),
    ("002590", "Cetirizine 10 mg", "strip", 4300),
    ("003011", "ORS sachet", "box", 21000),
    ("003466", "Digital thermometer", "pcs", 65500),
]
FIXED = datetime.datetime(2026, 11, 2, 8, 0, 0)


def csv_of_a_till():
    """Semicolons, decimal comma, thousands dots, cp1252, a field over two lines, a total row."""
    draw = random.Random(1)
    lines = ["SKU;Nama Produk;Satuan;Qty;Harga;Tanggal"]
    total = 0
    for code, name, unit, price in ITEMS:
        quantity = draw.randrange(0, 1900)
        total += quantity
        shown = f"{quantity:,}".replace(",", ".")
        amount = f"{price:,}".replace(",", ".") + ",50"
        lines.append(f"{code};{name};{unit};{shown};{amount};02/11/2026")
    lines.append('004002;"Bandage, crêpe\r\n(10 cm × 4 m)";roll;35;18.250,00;02/11/2026')
    lines.append("004117;Oximeter;pcs;habis;189.000,00;02/11/2026")
    lines.append("004230;Returned strips;strip;-12;1.000,00;02/11/2026")
    lines.append(f"TOTAL;;;{total};;")
    path = HERE / "merchants/sentosa/stock_2026-11-02.csv"
    path.write_bytes(("\r\n".join(lines) + "\r\n").encode("cp1252"))


def xls_of_a_wholesaler():
    """Old Excel: a title, two header rows with merged cells, a merged category, a total row."""
    draw = random.Random(2)
    book = xlwt.Workbook()
    sheet = book.add_sheet("Stock Gudang")
    bold = xlwt.easyxf("font: bold on")
    sheet.write_merge(0, 0, 0, 5, "PT Kimia Tama - laporan stok 2 November 2026", bold)
    sheet.write_merge(2, 3, 0, 0, "SKU", bold)
    sheet.write_merge(2, 3, 1, 1, "Name", bold)
    sheet.write_merge(2, 3, 2, 2, "Unit", bold)
    sheet.write_merge(2, 2, 3, 4, "Stock", bold)
    sheet.write(3, 3, "Good", bold)
    sheet.write(3, 4, "Expired", bold)
    sheet.write_merge(2, 3, 5, 5, "Price", bold)
    row = 4
    good_total = 0
    for code, name, unit, price in ITEMS:
        good = draw.randrange(5, 900)
        good_total += good
        sheet.write(row, 0, code)
        sheet.write(row, 1, name)
        sheet.write(row, 2, unit)
        sheet.write(row, 3, good)
        sheet.write(row, 4, draw.randrange(0, 9))
        sheet.write(row, 5, price * 0.94)
        row += 1
    sheet.write(row, 0, "Total", bold)
    sheet.write(row, 3, good_total, bold)
    book.save(str(HERE / "merchants/kimia-tama/stock_nov.xls"))


def xlsx_of_two_branches():
    """Two branch sheets of one shape, a hidden price sheet, codes as text, a formula column."""
    draw = random.Random(3)
    book = openpyxl.Workbook()
    book.properties.created = FIXED
    book.properties.modified = FIXED
    book.remove(book.active)
    for branch in ("Jakarta", "Bandung"):
        sheet = book.create_sheet(f"Stock {branch}")
        sheet.append(["SKU", "Name", "Unit", "Qty", "Price", "Counted"])
        for cell in sheet[1]:
            cell.font = Font(bold=True)
        for code, name, unit, price in ITEMS[: 6 if branch == "Bandung" else 8]:
            counted = datetime.date(2026, 11, draw.randrange(1, 3))
            sheet.append([code, name, unit, draw.randrange(0, 300), price * 1.1, counted])
    hidden = book.create_sheet("Stock master (do not edit)")
    hidden.append(["SKU", "Cost"])
    hidden.append(["000417", 1])
    hidden.sheet_state = "hidden"
    book.save(HERE / "merchants/apotek-jaya/stock_november.xlsx")


def claims_sheet():
    """An insurer's claims: dates, money, a note column, one claim without a member number."""
    draw = random.Random(4)
    book = openpyxl.Workbook()
    book.properties.created = FIXED
    book.properties.modified = FIXED
    sheet = book.active
    sheet.title = "Claims Oct 2026"
    sheet.append(["Claim No", "Member No", "Visit Date", "Provider", "Diagnosis", "Billed", "Paid"])
    providers = ["RS Harapan", "Klinik Melati", "RS Cipta", "Klinik Anggrek"]
    codes = ["J06.9", "I10", "E11.9", "K29.7", "M54.5"]
    for number in range(1, 41):
        billed = draw.randrange(80, 4200) * 1000
        sheet.append([
            f"CL-{number:05d}",
            None if number == 17 else f"{draw.randrange(10**7):08d}",
            datetime.date(2026, 10, draw.randrange(1, 32)),
            draw.choice(providers),
            draw.choice(codes),
            billed,
            round(billed * draw.choice([0, 0.8, 0.9, 1])),
        ])
    book.save(HERE / "claims/claims_2026-10.xlsx")


if __name__ == "__main__":
    csv_of_a_till()
    xls_of_a_wholesaler()
    xlsx_of_two_branches()
    claims_sheet()
