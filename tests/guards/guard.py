"""A guard of the product, as a small patch that takes it out, and the test that must turn red without it."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Stale(Exception):
    """The code has changed under a patch: it has to be written anew."""


@dataclass(frozen=True, slots=True)
class Guard:
    """``old`` stands in ``file`` exactly once, and ``new`` takes it out. ``test`` is the node id of a test, with its
    parameters where it has some; ``why`` says what goes wrong without the guard."""

    name: str
    file: str
    old: str
    new: str
    test: str
    why: str

    def without(self, text: str) -> str:
        """The file's text without the guard. Raises Stale."""
        if (found := text.count(self.old)) != 1:
            raise Stale(f"{self.name}: its old text stands {found} times in {self.file}, not once")
        changed = text.replace(self.old, self.new)
        if changed == text:
            raise Stale(f"{self.name}: it changes nothing")
        try:
            # A file that cannot be compiled turns every test red, and so proves nothing.
            compile(changed, self.file, "exec")
        except SyntaxError as error:
            raise Stale(f"{self.name}: {self.file} does not compile without it: {error}") from None
        return changed

    def check(self, root: Path = ROOT) -> None:
        """That it fits this tree: the patch applies, and there is such a test. Raises Stale."""
        self.without((root / self.file).read_text(encoding="utf-8"))
        path, _, function = self.test.partition("::")
        name = function.partition("[")[0]
        if f"def {name}(" not in (root / path).read_text(encoding="utf-8"):
            raise Stale(f"{self.name}: no {name} in {path}")
