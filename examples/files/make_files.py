"""Makes sales.csv and 季度报告.pdf anew; needs reportlab. The results are the same every time."""

import csv
import random
from pathlib import Path

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen.canvas import Canvas

HERE = Path(__file__).parent
PRODUCTS = {"绿茶 Green tea": 48.0, "红茶 Black tea": 52.5, "咖啡 Coffee": 79.9}
REPORT = (
    """2026 年第一季度销售报告
Sales report, first quarter of 2026

本季度销售额为 128.4 万元，比去年同期增长 12.6%。
华东地区贡献最大，占总销售额的 46%。
Coffee grew fastest; green tea is still the best seller.""",
    """展望

预计第二季度继续增长，重点是线上渠道。
We expect the new web shop to open in May.""",
)


def make_sales() -> None:
    chance = random.Random(2026)
    with (HERE / "sales.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["日期", "city", "产品", "quantity", "unit_price", "已付款"])
        for number in range(24):
            product, price = chance.choice(list(PRODUCTS.items()))
            city = chance.choice(["北京", "上海", "广州", "Hangzhou"])
            quantity = chance.randint(1, 40) if number % 9 != 4 else ""
            paid = "是" if chance.random() < 0.8 else "否"
            table.writerow(
                [f"2026-{number // 8 + 1:02d}-{number % 8 * 3 + 2:02d}", city, product, quantity, price, paid]
            )


def make_report() -> None:
    pdfmetrics.registerFont(UnicodeCIDFont("STSong-Light"))
    canvas = Canvas(str(HERE / "季度报告.pdf"), invariant=True, pageCompression=1)
    for page in REPORT:
        canvas.setFont("STSong-Light", 14)
        for number, line in enumerate(page.splitlines()):
            canvas.drawString(72, 770 - 26 * number, line)
        canvas.showPage()
    canvas.save()


if __name__ == "__main__":
    make_sales()
    make_report()
