"""Every code block of README and docs runs.

Python blocks of one page share a namespace and run in order, in an empty folder. In `sh` blocks every line that
calls `reluscope` runs; set-up lines (git, pip, make, cd, python -m venv) are what the reader does once and are not run here.
A block after `<!-- not run: reason -->` is skipped, visibly, with that reason.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
FENCE = re.compile(
    r"(?P<skip><!-- not run: (?P<why>[^>]+) -->\n)?```(?P<language>[\w-]*)\n(?P<code>.*?)^```",
    re.DOTALL | re.MULTILINE,
)
RUNNABLE = {"python", "sh"}
PLAIN = {"", "text", "yaml", "json", "bibtex", "toml", "sql"}
SET_UP = ("git ", "pip ", "make", "cd ", "python3 -m venv", "source ", "#")


@dataclass(frozen=True)
class Block:
    language: str
    code: str
    line: int
    why_not: str | None


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(m["language"], m["code"], text[: m.start("code")].count("\n") + 1, m["why"])
        for m in FENCE.finditer(text)
    ]


def run_python(page: Path, block: Block, namespace: dict) -> None:
    source = "\n" * (block.line - 1) + block.code  # tracebacks show the line of the page
    exec(compile(source, str(page), "exec"), namespace)


def run_shell(block: Block) -> None:
    for line in block.code.replace("\\\n", " ").splitlines():
        command = line.strip().removeprefix("$ ").split("  #")[0]
        if not command or command.startswith(SET_UP):
            continue
        assert command.startswith("reluscope "), f"neither a set-up line nor reluscope: {command}"
        words = [sys.executable, "-m", "reluscope.cli", *shlex.split(command)[1:]]
        answer = subprocess.run(words, capture_output=True, text=True, timeout=280)
        assert answer.returncode == 0, f"{command}\n{answer.stdout}\n{answer.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_blocks_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    namespace: dict = {"__name__": "__docs__"}
    for block in blocks_of(page):
        if block.why_not is not None:
            continue
        if block.language == "python":
            run_python(page, block, namespace)
        elif block.language == "sh":
            run_shell(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_fenced_block_says_what_it_is(page):
    for block in blocks_of(page):
        assert block.language in RUNNABLE | PLAIN, f"{page.name}:{block.line}: ```{block.language}"


def test_a_broken_block_is_found():
    with pytest.raises(NameError):
        run_python(Path("page.md"), Block("python", "no_such_name\n", 1, None), {})
    with pytest.raises(AssertionError, match="No such command"):
        run_shell(Block("sh", "reluscope no-such-command\n", 1, None))


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            if "://" not in target and not target.startswith("mailto:"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
