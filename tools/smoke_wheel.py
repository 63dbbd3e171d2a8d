"""Build the wheel, install it into an empty environment, and use it there: what people get must work without this folder.

python tools/smoke_wheel.py
"""

import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
REPORT = ROOT / "src" / "provenet" / "report"


def main() -> None:
    """Raises where a step fails."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT, cwd=folder)
        (wheel,) = folder.glob("*.whl")
        inside = zipfile.ZipFile(wheel).namelist()
        for wanted in (
            "provenet/py.typed",
            "provenet/checkup/checkup.html.jinja",
            "provenet/data/samples/fashion-mini/LICENSE",
            "provenet/papers/alexnet.toml",
            "provenet/data/samples/fashion-mini/train-images-idx3-ubyte.gz",
            *(f"provenet/report/{path.relative_to(REPORT).as_posix()}" for path in sorted(REPORT.rglob("*.*")) if path.suffix != ".pyc"),
            "provenet/report/uplot/LICENSE",
            *(f"provenet/drawing/templates/explorer.{kind}" for kind in ("html", "css", "js")),
            *(f"provenet/drawing/fonts/{name}" for name in ("Inter-Regular.otf", "Inter-SemiBold.woff2", "OFL.txt")),
        ):
            assert wanted in inside, f"{wanted} is missing in {wheel.name}"
        assert any(name.endswith("licenses/src/provenet/report/uplot/LICENSE") for name in inside), (
            "uPlot's license is not among the licenses"
        )
        venv.create(folder / "empty", with_pip=True)
        binaries = folder / "empty" / ("Scripts" if sys.platform == "win32" else "bin")
        run(binaries / "python", "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel, cwd=folder)
        run(binaries / "provenet", "--version", cwd=folder)
        run(binaries / "provenet", "verify", "lenet5", "nin_cifar", "arithmetic", cwd=folder)
        run(binaries / "provenet", "summary", "resnet50", "--depth", "block", cwd=folder)
        run(binaries / "provenet", "difference", "resnet50", "resnet50_v1_5", cwd=folder)
        for kind in ("svg", "png", "html"):
            run(binaries / "provenet", "draw", "googlenet", "--unfold", "-o", f"net.{kind}", cwd=folder)
            assert (folder / f"net.{kind}").stat().st_size > 20_000, "the picture is empty"
        run(binaries / "provenet", "check", "fashion-mini", cwd=folder)
        run(binaries / "provenet", "train", "fashion-mini", "--model", "lenet5_softmax", "--epochs", "1", "--output", "run", cwd=folder)
        run(binaries / "provenet", "evaluate", "run", "fashion-mini", "--report", "evaluation.html", cwd=folder)
        assert (folder / "evaluation.html").stat().st_size > 100_000, "the report is empty"
        print(f"{wheel.name}, {wheel.stat().st_size:,} bytes, works in an empty environment")


def run(*command: object, cwd: Path) -> None:
    """One command, which must succeed."""
    print("$", *command, flush=True)
    subprocess.run([str(word) for word in command], cwd=cwd, check=True)


if __name__ == "__main__":
    main()
