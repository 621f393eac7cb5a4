"""Small workflows of the kinds that redun's users write first, each with a change that makes part run again.

Tasks note that they ran. They are at home in this module, so that workers can import them.
"""
# ruff: noqa: D103

import asyncio
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from redun import Dir, File, apply_tags, catch, cond, get_context, script, task
from redun.functools import map_, seq
from redun.handle import Handle
from redun.scheduler import catch_all, merge_handles, subrun, throw

redun_namespace = "examples"
ran: list[str] = []
"""What ran, rather than came from a cache, since the test emptied it."""


# a greeting ----------------------------------------------------------------------------------------------


@task()
def planet() -> str:
    ran.append("planet")
    return "Mars"


@task()
def greet(greeting: str, name: str) -> str:
    ran.append("greet")
    return f"{greeting}, {name}!"


@task()
def hello(folder: str, greeting: str = "Hello") -> Any:
    ran.append("hello")
    return greet(greeting, planet())


# a sum that is computed lazily ---------------------------------------------------------------------------


@task()
def step(x: int) -> int:
    ran.append("step")
    return x + 1


@task()
def weigh(values: list[int], weights: dict[str, int]) -> int:
    ran.append("weigh")
    return sum(values) * weights["w"]


@task()
def lazy(folder: str, count: int = 3) -> Any:
    ran.append("lazy")
    numbers = [step(i) for i in range(count)]
    pair = {"w": numbers[0] + numbers[1]}
    return [
        weigh(numbers, pair),
        numbers[-1] * 2,
        cond(numbers[0] < 5, step(10), step(20)),
        map_(step, [1, 7]),
    ]


# sorting by recursion ------------------------------------------------------------------------------------


@task()
def merge(left: list[int], right: list[int]) -> list[int]:
    ran.append("merge")
    return sorted(left + right)


@task()
def merge_sort(numbers: list[int]) -> Any:
    ran.append("merge_sort")
    if len(numbers) < 2:
        return numbers
    middle = len(numbers) // 2
    return merge(merge_sort(numbers[:middle]), merge_sort(numbers[middle:]))


@task()
def sorting(folder: str, numbers: tuple[int, ...] = (5, 2, 9, 1, 5, 7)) -> Any:
    ran.append("sorting")
    return merge_sort(list(numbers))


# files in, files out -------------------------------------------------------------------------------------


@task()
def count_words(text: File) -> dict[str, int]:
    ran.append("count_words")
    words = str(text.read()).split()
    return {word: words.count(word) for word in sorted(set(words))}


@task()
def report(counts: list[dict[str, int]], path: str) -> File:
    ran.append("report")
    file = File(path)
    file.write(json.dumps(counts))
    return file


@task()
def listing(texts: Dir) -> list[str]:
    ran.append("listing")
    return sorted(file.basename() for file in texts)


@task()
def words(folder: str) -> Any:
    ran.append("words")
    texts = Dir(f"{folder}/texts")
    counts = [count_words(File(f"{folder}/texts/{name}.txt")) for name in ("one", "two")]
    return [report(counts, f"{folder}/report.json"), listing(texts)]


def prepare_words(folder: Path) -> None:
    (folder / "texts").mkdir()
    (folder / "texts" / "one.txt").write_text("a rose is a rose")
    (folder / "texts" / "two.txt").write_text("is a rose")


def change_words(folder: Path) -> None:
    (folder / "texts" / "two.txt").write_text("is it a tulip or a rose")


def lose_report(folder: Path) -> None:
    (folder / "report.json").unlink()


# shell scripts with staged files -------------------------------------------------------------------------


@task()
def sort_lines(unsorted: File, path: str) -> Any:
    ran.append("sort_lines")
    return script(
        """
        sort -u lines.txt > sorted.txt
        wc -l < sorted.txt
        """,
        inputs=[unsorted.stage("lines.txt")],
        outputs={"file": File(path).stage("sorted.txt"), "text": File("-")},
        tempdir=True,
    )


@task()
def size(made: dict[str, Any]) -> list[Any]:
    ran.append("size")
    return [made["file"].size(), int(made["text"])]


@task()
def scripts(folder: str) -> Any:
    ran.append("scripts")
    return size(sort_lines(File(f"{folder}/lines.txt"), f"{folder}/sorted.txt"))


def prepare_lines(folder: Path) -> None:
    (folder / "lines.txt").write_text("b\na\nb\n")


def change_lines(folder: Path) -> None:
    (folder / "lines.txt").write_text("c\nb\na\nb\n")


# errors and how to go on ---------------------------------------------------------------------------------


@task()
def divide(x: int, y: int) -> float:
    ran.append("divide")
    return x / y


@task()
def instead(error: ZeroDivisionError) -> float:
    ran.append("instead")
    return float("inf")


@task()
def tell(results: list[Any]) -> Any:
    ran.append("tell")
    return [type(each).__name__ for each in results]


@task()
def stop(error: Exception) -> Any:
    ran.append("stop")
    return throw(KeyError("stopped"))


@task()
def after(error: KeyError) -> str:
    ran.append("after")
    return str(error)


@task()
def errors(folder: str) -> Any:
    ran.append("errors")
    return [
        catch(divide(1, 0), ZeroDivisionError, instead),
        catch(divide(4, 2), ZeroDivisionError, instead),
        catch_all([divide(1, 2), divide(2, 0)], ZeroDivisionError, tell),
        catch(catch(divide(3, 0), ZeroDivisionError, stop), KeyError, after),
    ]


# a database behind a handle ------------------------------------------------------------------------------


class Table(Handle):
    """A table of one column in a SQLite file; the file is the state outside."""

    def __init__(self, name: str, path: str) -> None:
        self.path = path
        self.instance = None

    def rows(self, statement: str = "SELECT x FROM t ORDER BY rowid", *given: int) -> list[int]:
        """Do something, and return what it gives."""
        with sqlite3.connect(self.path) as connection:
            return [x for (x,) in connection.execute(statement, given)]


@task()
def create(table: Table) -> Table:
    ran.append("create")
    table.rows("DROP TABLE IF EXISTS t")
    table.rows("CREATE TABLE t (x INTEGER)")
    return table


@task()
def insert(table: Table, x: int) -> Table:
    ran.append(f"insert {x}")
    table.rows("INSERT INTO t VALUES (?)", x)
    return table


@task()
def total(table: Table) -> int:
    ran.append("total")
    return sum(table.rows())


@task()
def handles(folder: str, first: int = 1) -> Any:
    ran.append("handles")
    table = create(Table("db", f"{folder}/t.db"))
    table = insert(table, first)
    both = [insert(table, 10), insert(table, 20)]
    return total(merge_handles(both))


# tags, contexts, options, other kinds of tasks -----------------------------------------------------------


@task(tags=[("team", "examples")])
def tagged(x: int) -> Any:
    ran.append("tagged")
    return apply_tags(step(x), tags=[("kind", "number")], job_tags=[("stage", "first")])


@task()
def tags(folder: str) -> Any:
    ran.append("tags")
    return [tagged(1), tagged(1), tagged(2)]


@task()
def in_context(scale: int = get_context("scale", 1)) -> int:
    ran.append("in_context")
    return scale


@task()
def contexts(folder: str) -> Any:
    ran.append("contexts")
    doubled = in_context.update_context({"scale": 2})
    return [in_context(), doubled(), doubled(), doubled.update_context({"other": 1})()]


@task(cache=False)
def always() -> int:
    ran.append("always")
    return 1


@task(check_valid="shallow")
def shallow(x: int) -> Any:
    ran.append("shallow")
    return step(step(x))


@task(version="7", cache=False)
async def waits(x: int) -> int:
    ran.append("waits")
    await asyncio.sleep(0)
    return x


@task(prov=False)
def unrecorded(x: int) -> Any:
    ran.append("unrecorded")
    return step(x)


@task()
def options(folder: str) -> Any:
    ran.append("options")
    return [
        always(),
        shallow(3),
        waits(4),
        unrecorded(5),
        seq([step(6), step(6)]),
        step.options(cache=False)(8),
    ]


# a scheduler of its own for a part -----------------------------------------------------------------------


@task()
def part(x: int) -> Any:
    ran.append("part")
    return [step(x), step(x + 1)]


@task()
def subruns(folder: str) -> Any:
    ran.append("subruns")
    # One after the other: redun's own backend may fail where two record one value at once.
    return seq([subrun(part(1), executor="default"), subrun(part(2), executor="default")])


class Example(NamedTuple):
    """A workflow, what it needs and gives, and a change with what runs again after it."""

    main: Any
    result: Any
    """Of the first run; None where it is a file."""
    prepare: Callable[[Path], object] = lambda _folder: None
    cached: tuple[str, ...] = ()
    """What runs again in a second run all the same: errors, and what is not to be cached."""
    change: Callable[[Path], object] = lambda _folder: None
    arguments: dict[str, Any] = {}
    """Of a third run, after the change."""
    again: tuple[str, ...] = ()
    """What runs in the third; nothing means that there is none."""


_SORTED_AGAIN = ("merge",) * 3 + ("merge_sort",) * 4 + ("sorting",)
_UNCACHED = ("always", "step", "step", "unrecorded", "waits")
EXAMPLES = {
    "hello": Example(hello, "Hello, Mars!", arguments={"greeting": "Bye"}, again=("greet", "hello")),
    "lazy": Example(lazy, [18, 6, 11, [2, 8]], arguments={"count": 4}, again=("lazy", "step", "weigh")),
    "sorting": Example(
        sorting, [1, 2, 5, 5, 7, 9], arguments={"numbers": (5, 2, 9, 1, 5, 8)}, again=_SORTED_AGAIN
    ),
    "words": Example(
        words, None, prepare_words, change=change_words, again=("count_words", "listing", "report", "words")
    ),
    "lost file": Example(words, None, prepare_words, change=lose_report, again=("report",)),
    "scripts": Example(
        scripts, [4, 2], prepare_lines, change=change_lines, again=("scripts", "size", "sort_lines")
    ),
    "errors": Example(
        errors,
        [float("inf"), 2.0, ["float", "ZeroDivisionError"], "'stopped'"],
        cached=("divide",),
    ),
    "handles": Example(
        handles,
        31,
        arguments={"first": 2},
        again=("handles", "insert 10", "insert 2", "insert 20", "total"),
    ),
    "tags": Example(tags, [2, 2, 3]),
    "contexts": Example(contexts, [1, 2, 2, 2]),
    "options": Example(options, [1, 5, 4, 6, [7, 7], 9], cached=_UNCACHED),
    "subruns": Example(subruns, [[2, 3], [3, 4]]),
}
