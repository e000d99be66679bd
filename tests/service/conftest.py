"""What tests of the service share with those of the flows: a small run of the loop."""

from tests.flows.conftest import loop, one_training_process, plain_flows, run_improve

__all__ = ["loop", "one_training_process", "plain_flows", "run_improve"]
