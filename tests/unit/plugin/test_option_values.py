"""Numbers in options and in a config.properties: plain ones are read, all others are a message that says what to do."""

from __future__ import annotations

import pytest

from pytest_torchserve._util import plain_numbers
from pytest_torchserve.deployment import Batching
from pytest_torchserve.errors import OptionError
from pytest_torchserve.loadgen.arrivals import ConstantRate, Ramp
from pytest_torchserve.plugin import archive_values, option_values
from pytest_torchserve.torchserve.settings import ServerSettings

ODD = ["", " ", "x", "-5", "+5", "1_000", "٣", "inf", "nan", "-0", "1e", "0x10", "9" * 30, "9" * 5000]
"""Texts that no one means as a number, though Python reads some of them as one, and numbers out of every range."""


@pytest.mark.parametrize("text", [*ODD, "2.5", "1e3", "2147483648"])
def test_no_whole_number(text):
    """A whole number is written in ASCII digits, and TorchServe can hold it."""
    with pytest.raises(ValueError, match=r"."):
        plain_numbers.whole(text)


@pytest.mark.parametrize("text", [*ODD[:-2], "1e999", "1e+-5", "1,", ".", "1.2.3"])
def test_no_number(text):
    """A number is finite and written in ASCII, without a sign before it."""
    with pytest.raises(ValueError, match=r"."):
        plain_numbers.number(text)


@pytest.mark.parametrize(
    ("text", "wanted"), [("1", 1), (" 2.5 ", 2.5), (".5", 0.5), ("3.", 3), ("1e-3", 1e-3), ("1E+3", 1e3), ("0", 0)]
)
def test_a_number(text, wanted):
    """The usual ways to write a number."""
    assert plain_numbers.number(text) == wanted


LOADS = [f"{kind}:{number}" for kind in ("closed", "constant", "poisson") for number in (*ODD, "0", "1e308", "1e7")]
RAMPS = ["", "-", "5", "-5", "5-", "1e-3", "5-0", "0-5", "1e308-5", "5-1e308", "5-inf", "1--5", "5-6-7", "1_0-5"]


@pytest.mark.parametrize("text", [*LOADS, *[f"ramp:{rates}" for rates in RAMPS], "closed:2.5", "burst:4", ""])
def test_a_load_that_cannot_be_sent(text):
    """Each load is refused with what was wanted, the part that is wrong, and what to do."""
    with pytest.raises(OptionError, match="wanted: --ts-loads as closed:USERS") as caught:
        option_values.schedules(f"closed:4,{text}", 10.0, 1)
    assert caught.value.found.startswith(repr(text)[:40])
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("ramp:5-50", Ramp(5.0, 50.0, 10.0)),
        ("ramp:1e-3-5", Ramp(1e-3, 5.0, 10.0)),
        ("ramp:5-1e-3", Ramp(5.0, 1e-3, 10.0)),
        ("ramp:1e-3-5e-3", Ramp(1e-3, 5e-3, 10.0)),
        ("ramp: 1e1 - 5.5", Ramp(10.0, 5.5, 10.0)),
        ("constant:1e2", ConstantRate(100.0, 10.0)),
    ],
)
def test_rates_with_an_exponent(text, wanted):
    """The minus of an exponent is not the one between the rates of a ramp."""
    assert option_values.schedules(text, 10.0, 1) == (wanted,)


@pytest.mark.parametrize("number", [float("inf"), float("nan"), 0, -5, 1e308, 10**400, 2_147_484])
def test_an_option_out_of_range(number):
    """A number that TorchServe's milliseconds cannot hold is refused like one that is not above 0."""
    with pytest.raises(OptionError, match="wanted: --ts-x above 0 and at most 2147483\n"):
        option_values.positive("--ts-x", number)


@pytest.mark.parametrize("number", [1e-3, 1, 2_147_483])
def test_an_option_in_range(number):
    """All other numbers are taken."""
    option_values.positive("--ts-x", number)


@pytest.mark.parametrize(
    "text", [*ODD, "16", "1/2/3", "0/100", "16/-1", "١٦/1", "1_6/1", f"{2**31}/1", f"1/{2**31}", "1/" + "9" * 5000]
)
def test_a_batching_that_torchserve_cannot_have(text):
    """A batching is two whole numbers that TorchServe can hold."""
    with pytest.raises(OptionError, match="wanted: --ts-batching as SIZE/DELAY_MS"):
        option_values.batchings(f"1/0,{text}")
    assert option_values.batchings("1/0, 16/100") == (Batching(1, 0), Batching(16, 100))


@pytest.mark.parametrize("text", [*ODD, "0", "2.5"])
def test_no_whole_numbers(text):
    """A list of whole numbers has no other ones."""
    with pytest.raises(OptionError, match="wanted: --ts-workers as whole numbers from 1"):
        option_values.whole_numbers("--ts-workers", f"1,{text}")
    assert option_values.whole_numbers("--ts-workers", "1, 2") == (1, 2)


@pytest.mark.parametrize("text", [*ODD, "0", "0%", "1", "100%", "1_0%", "٣%", "nan%"])
def test_no_share(text):
    """A share lies between 0 and 100%."""
    with pytest.raises(OptionError, match="wanted: --ts-x as a share"):
        option_values.fraction("--ts-x", text)
    assert option_values.fraction("--ts-x", "5 %") == option_values.fraction("--ts-x", "0.05") == 0.05


@pytest.mark.parametrize("text", ODD[1:-2])
def test_no_tolerance(text):
    """A tolerance is a plain number."""
    with pytest.raises(OptionError, match="wanted: --ts-tolerance"):
        archive_values.tolerance(f"0.1/{text}")


@pytest.mark.parametrize("name", ["default_response_timeout", "default_startup_timeout"])
@pytest.mark.parametrize("text", [*ODD, "0", "2.5", "2147484"])
def test_a_time_out_of_a_config(tmp_path, name, text):
    """A time-out in a config.properties is a whole number of seconds, too."""
    config = tmp_path / "config.properties"
    config.write_text(f"{name}={text}\n", encoding="utf-8")
    with pytest.raises(OptionError, match=f"wanted: {name} in whole seconds from 1 to 2147483 "):
        _ = ServerSettings(config=config).timeouts
