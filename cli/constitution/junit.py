"""JUnit XML of tested examples, as CI systems read it: a test case an example, its class the principle.

Whatever a file says is shown with hidden characters made visible, and so is legal in XML too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

from cli.constitution.example_text import in_full, short
from cli.text import visible

if TYPE_CHECKING:
    from pipeline.examples import ExampleResult
    from service.work.examples import Examined


def junit(examined: Examined) -> bytes:
    """The file's bytes, UTF-8. A case's `time` is its share of the seconds that were spent asking; 0 for a verdict that
    was stored before."""
    totals = {
        "tests": str(len(examined.results)), "failures": str(len(examined.failed)), "errors": "0", "skipped": "0",
        "time": f"{examined.seconds:.3f}",
    }  # fmt: skip
    suites = ElementTree.Element("testsuites", {"name": "precept constitution test", **totals})
    suite = ElementTree.SubElement(suites, "testsuite", {"name": visible(examined.constitution.name), **totals})
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in (("version", examined.constitution.version), ("judge", examined.judge)):
        ElementTree.SubElement(properties, "property", {"name": name, "value": visible(value)})
    for found in examined.results:
        _case(suite, examined, found)
    ElementTree.indent(suites)
    data: bytes = ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)
    return data + b"\n"


def _case(suite: ElementTree.Element, examined: Examined, found: ExampleResult) -> None:
    from pipeline.examples import reason

    case = ElementTree.SubElement(
        suite, "testcase",
        {
            "classname": found.case.principle.id,
            "name": f"example {found.case.number}: {visible(short(found))}",
            "time": f"{examined.seconds_of(found):.3f}",
        },
    )  # fmt: skip
    if not found.passed:
        message = reason(found, examined.rule, examined.method)
        failure = ElementTree.SubElement(case, "failure", {"type": found.outcome, "message": message})
        failure.text = visible(in_full(found, examined.method))
