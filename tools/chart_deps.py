"""Put into charts/eod the charts that its Chart.lock names, out of the folders beside it, by Helm.

Run by `make charts`; the packages are not kept in git. A Chart.lock that no longer fits Chart.yaml is an error:
`helm dependency update charts/eod` mends it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from testbed.helm import Helm

CHARTS = Path(__file__).parents[1] / "charts"


def main() -> None:
    """Package what each chart with a lock depends on, and say which."""
    with tempfile.TemporaryDirectory() as home:
        helm = Helm(Path(home))
        for lock in sorted(CHARTS.glob("*/Chart.lock")):
            helm("dependency", "build", lock.parent)
            for package in sorted(lock.parent.glob("charts/*.tgz")):
                print(f"wrote {package.relative_to(CHARTS.parent)}")


if __name__ == "__main__":
    main()
