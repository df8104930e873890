"""Opens a report in headless Chromium: clicks a point, switches an axis.

python .ci/open_report.py runs/digits/report.html
"""

import pathlib
import shutil
import sys

from playwright.sync_api import sync_playwright

FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
]


def main() -> None:
  page_url = pathlib.Path(sys.argv[1]).resolve().as_uri()
  with sync_playwright() as playwright:
    browser = playwright.chromium.launch(
      executable_path=shutil.which("chromium"), args=FLAGS
    )
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    problems, requests = [], []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(page_url)
    points = page.locator("#plot .scatterlayer .points path")
    assert points.count() >= 12, f"{points.count()} points"
    plot = page.locator("#plot")

    before = (page.inner_text("#name"), page.inner_text("#command"))
    picture = plot.screenshot()
    # Not by the element: Plotly's own layer lies above it and takes clicks.
    place = points.last.bounding_box()
    page.mouse.move(place["x"] + 5, place["y"] + 5)
    page.wait_for_timeout(300)
    page.mouse.click(
      place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    )
    page.wait_for_timeout(500)
    after = (page.inner_text("#name"), page.inner_text("#command"))
    assert after != before, "a click on a point changed no detail"
    assert "experiments.train" in after[1], after[1]
    assert page.locator("#curve .scatterlayer .js-line").count() == 2
    clicked = plot.screenshot()
    assert clicked != picture, "a click on a point changed no picture"

    title = page.locator("#plot .xtitle").text_content()
    page.select_option("#footprint", "latency_us")
    page.wait_for_timeout(500)
    assert page.locator("#plot .xtitle").text_content() != title
    assert plot.screenshot() != clicked, "another axis changed no picture"

    outside = [
      url for url in requests if not url.startswith(("file:", "blob:"))
    ]
    assert not problems, problems
    assert not outside, f"the page asked for {outside}"
    browser.close()
  print("report: a click and an axis change the picture; 1 passed, 0 failed")


if __name__ == "__main__":
  main()
