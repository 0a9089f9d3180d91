"""Commands for what was not measured."""

from __future__ import annotations


def test_commands_quote_what_the_user_called_the_data(make_evidence, make_runs):
    evidence = make_evidence(make_runs())
    command = evidence.probe_command(evidence.configurations[0], "linear,mlp")
    assert command == (
        "skyprobe probe 'my galaxies/' -b dinov2-s -p full-224 --head linear,mlp --protocol cv --pooling cls "
        "--labels kind"
    )
