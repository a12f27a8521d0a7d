"""Writes the FIX dictionaries of `eod_workers/fix/dictionaries` anew, from those that QuickFIX/J ships in its core jar.

Its `FIX42.xml` and `FIX44.xml` hold every field with type and values, every message, component and group of the two
versions. They become JSON that loads in a few milliseconds and that a person can compare. `--check` writes nothing and
fails when a file is not what the jar gives.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree as ET  # the jar is a pinned dependency, not somebody's input

FOLDER = Path(__file__).parents[1] / "workers/eod_workers/fix/dictionaries"
VERSIONS = {"FIX.4.2": "FIX42.xml", "FIX.4.4": "FIX44.xml"}


def main() -> int:
    """Write, or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("jar", type=Path, nargs="?", help="quickfixj-core-VERSION.jar; that of the test bed, if none")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file differs")
    arguments = parser.parse_args()
    jar = arguments.jar or of_the_test_bed()
    different = []
    for version in VERSIONS:
        path, text = FOLDER / f"{version}.json", made_of(jar, version)
        if arguments.check:
            if not path.is_file() or path.read_text() != text:
                different.append(path.name)
        else:
            path.write_text(text)
            print(f"{path}: {len(text):,} characters")
    for name in different:
        print(f"{name} is not what {jar.name} gives: run 'make fix-dictionaries'")
    return bool(different)


def of_the_test_bed() -> Path:
    """The jar that the tests talk to."""
    from testbed.quickfixj import QuickFixJ  # noqa: PLC0415 - only where no jar is given

    program = QuickFixJ(QuickFixJ.fetch())
    return program.home / "jars" / f"{program.jar('quickfixj-core')}.jar"


def made_of(jar: Path, version: str) -> str:
    """The text of one dictionary file."""
    with zipfile.ZipFile(jar) as archive:
        root = ET.fromstring(archive.read(VERSIONS[version]))  # noqa: S314 - see the import
    numbers = {field.attrib["name"]: int(field.attrib["number"]) for field in root.iterfind("fields/field")}

    def members(parent: ET.Element) -> list[list[object]]:
        out: list[list[object]] = []
        for child in parent:
            name, required = child.attrib["name"], int(child.attrib.get("required") == "Y")
            if child.tag == "component":
                out.append([name, required])
            elif child.tag == "group":
                out.append([numbers[name], required, members(child)])
            else:
                out.append([numbers[name], required])
        return out

    types = {name: field.attrib["type"] for name, field in _fields(root).items()}
    dictionary = {
        "begin_string": version,
        "source": f"{re.sub(r'[.]jar$', '', jar.name)}: {VERSIONS[version]}",
        "fields": {str(numbers[name]): _described(field) for name, field in _fields(root).items()},
        "data": {
            str(numbers[name]): numbers[_length_of(name, types)] for name, kind in types.items() if kind == "DATA"
        },
        "header": members(_one(root, "header")),
        "trailer": members(_one(root, "trailer")),
        "components": {part.attrib["name"]: members(part) for part in root.iterfind("components/component")},
        "messages": {
            message.attrib["msgtype"]: [message.attrib["name"], message.attrib["msgcat"], members(message)]
            for message in root.iterfind("messages/message")
        },
    }
    return _lines(dictionary)


def _fields(root: ET.Element) -> dict[str, ET.Element]:
    fields = sorted(root.iterfind("fields/field"), key=lambda field: int(field.attrib["number"]))
    return {field.attrib["name"]: field for field in fields}


def _described(field: ET.Element) -> list[object]:
    """Name and type; then the values there are, if there are, unless others may be sent, too."""
    described: list[object] = [field.attrib["name"], field.attrib["type"]]
    values = {value.attrib["enum"]: value.attrib["description"] for value in field.iterfind("value")}
    if values and field.attrib.get("allowOtherValues") != "true":
        described.append(values)
    return described


def _length_of(data: str, types: dict[str, str]) -> str:
    """The field that announces the length of a data field, by its name."""
    return next(name for name in (f"{data}Len", f"{data}Length") if name in types)


def _one(root: ET.Element, name: str) -> ET.Element:
    found = root.find(name)
    if found is None:
        raise ValueError(f"the dictionary has no <{name}>")
    return found


def _lines(dictionary: dict[str, object]) -> str:
    """JSON with a line for each field, component and message."""
    parts = []
    for key, value in dictionary.items():
        if key in {"fields", "components", "messages"} and isinstance(value, dict):
            inner = ",\n".join(f"  {json.dumps(name)}: {json.dumps(one)}" for name, one in value.items())
            parts.append(f" {json.dumps(key)}: {{\n{inner}\n }}")
        else:
            parts.append(f" {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    sys.exit(main())
