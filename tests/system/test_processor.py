"""Kinds of processors are told apart as Linux lists them."""

from __future__ import annotations

from tailorbird.system.machine import processor_name, read_processor

INTEL = ["processor\t: 0", "cpu family\t: 6", "model\t\t: 207", "model name\t: Intel(R) Xeon(R) Processor", "processor\t: 1"]


def test_of_two_that_bear_one_name_the_numbers_tell() -> None:
    assert read_processor(INTEL) == "Intel(R) Xeon(R) Processor (family 6, model 207)"
    assert read_processor([line.replace("207", "143") for line in INTEL]) != read_processor(INTEL)


def test_arm_names_implementer_and_part() -> None:
    assert "part 0xd0c" in read_processor(["CPU implementer\t: 0x41", "CPU part\t: 0xd0c"])


def test_an_empty_list_names_none_and_this_machine_has_a_name() -> None:
    assert read_processor([]) == ""
    assert processor_name()
