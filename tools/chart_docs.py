"""Write the README.md of every chart from its README.md.gotmpl and the comments in its values.yaml, by helm-docs.

Run by `make chart-docs`; a test fails when a README is not what this would write.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from testbed.helm import Helm

CHARTS = Path(__file__).parents[1] / "charts"


def main() -> None:
    """Write each README and say which."""
    with tempfile.TemporaryDirectory() as home:
        helm = Helm(Path(home))
        for chart in sorted(file.parent for file in CHARTS.glob("*/Chart.yaml")):
            chart.joinpath("README.md").write_text(helm.docs(chart), encoding="utf-8")
            print(f"wrote {chart.relative_to(CHARTS.parent)}/README.md")


if __name__ == "__main__":
    main()
