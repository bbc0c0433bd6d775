"""The published schema of a line of ``metrics.jsonl`` says what the record is."""

import json
from pathlib import Path

from fedclip_plugin.runs import round_record
from tests.support.round_records import round_record as a_round

PUBLISHED = Path(round_record.__file__).with_name("round_record.schema.json")
MAKE = "from fedclip_plugin.runs.round_record import schema_text; print(schema_text(), end='')"


def test_the_published_schema_is_that_of_the_record():
    assert PUBLISHED.read_text(encoding="utf-8") == round_record.schema_text(), (
        f'make it anew: python -c "{MAKE}" > {PUBLISHED.name}'
    )


def test_a_line_has_all_that_the_schema_requires_and_nothing_that_it_does_not_name():
    schema, line = json.loads(PUBLISHED.read_text(encoding="utf-8")), json.loads(a_round(0, target=0.5).to_json())
    assert set(schema["required"]) <= set(line) <= set(schema["properties"])
    silo = schema["$defs"]["SiloRecord"]
    assert set(silo["required"]) <= set(line["silos"]["north"]) <= set(silo["properties"])
