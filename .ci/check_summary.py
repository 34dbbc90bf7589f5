"""Fails unless a run's summary.json shows what the README promises of ``--cell=lstm``."""

import json
import sys
from pathlib import Path

summary = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
test, seconds = summary["test"], summary["seconds"]
checks = {
    f"test accuracy {test['accuracy']:.4f} is at least 0.99": test["accuracy"] >= 0.99,
    f"mae {test['mae']:.4f} is at most 0.01": test["mae"] <= 0.01,
    f"share within half a position {test['within_half']:.4f} is 1": test["within_half"] == 1,
    f"{seconds['total']:.1f} s is at most 60 s": seconds["total"] <= 60,
    f"{summary['compilations']} compilations are at most 8": summary["compilations"] <= 8,
}
for what, holds in checks.items():
    print("ok    " if holds else "FAILED", what)
sys.exit(not all(checks.values()))
