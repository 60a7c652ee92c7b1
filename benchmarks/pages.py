"""Tables in pages of the documentation."""

from pathlib import Path

__all__ = ["put"]


def put(text: str, marks: tuple[str, str], out: Path | None, title: str = "") -> None:
    """Put a table between the marks of a page, or at its end; print it if there is no page.

    A page that does not exist starts with the title.
    """
    if out is None:
        print(text)
        return
    old = out.read_text(encoding="utf-8") if out.exists() else title
    if marks[0] not in old:
        old += "\n" + "\n".join(marks) + "\n"
    head, tail = old.split(marks[0])[0], old.split(marks[1])[1]
    out.write_text(f"{head}{marks[0]}\n{text}{marks[1]}{tail}", encoding="utf-8")
