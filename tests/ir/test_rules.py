"""Numbers that rules make of sizes."""

from kcompile.ir import dim
from kcompile.ir.rules import Either, Largest, with_rules

BATCH = dim.symbol("batch")


def test_each_rule_may_use_the_names_before_it():
    rules = (
        Largest("a", (4 * BATCH, 100, BATCH * BATCH)),
        Either("b", dim.symbol("a"), 50 * BATCH, dim.symbol("a") + 1, 7),
    )
    assert with_rules(rules, {"batch": 2}) == {"batch": 2, "a": 100, "b": 101}
    assert with_rules(rules, {"batch": 1}) == {"batch": 1, "a": 100, "b": 7}
    assert with_rules(rules, {"batch": 60})["a"] == 3600
    assert with_rules((), {"batch": 3}) == {"batch": 3}
