# SPDX-License-Identifier: Apache-2.0
"""The options: the sample is what the generator makes, defaults are the engine's."""

from __future__ import annotations

import io
from pathlib import Path

from oslo_config import cfg, generator

from midoryu.conf import opts
from midoryu.conf.flow_state import lifetime_option
from midoryu.engine.config import EngineConfig
from midoryu.state.connection import Phase

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "etc/midoryu/midoryu.conf.sample"
GENERATOR_INPUT = ROOT / "etc/oslo-config-generator/midoryu.conf"


def test_the_sample_is_what_the_generator_makes_of_the_options() -> None:
    conf = cfg.ConfigOpts()
    generator.register_cli_opts(conf)
    conf(["--config-file", str(GENERATOR_INPUT)], default_config_files=[])
    output = io.StringIO()

    generator.generate(conf, output_file=output)

    assert output.getvalue() == SAMPLE.read_text()


def test_an_empty_file_gives_the_engines_own_defaults() -> None:
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], default_config_files=[])
    engine = EngineConfig(host="h", epoch=1, seed=1)

    for option in ("max_flows", "fin_timeout_s", "neighbor_timeout_s"):
        assert conf.agent[option] == getattr(engine, option)
    lifetimes = [conf.flow_state[lifetime_option(phase)] for phase in Phase]
    assert tuple(lifetimes) == engine.lifetimes_s


def test_every_option_has_a_help_text_and_names_its_unit() -> None:
    timed = ("timeout", "lifetime")
    for _, options in opts.list_opts():
        for option in options:
            assert option.help
            if any(word in option.name for word in timed):
                assert option.name.endswith("_s")
                assert "econds" in option.help
