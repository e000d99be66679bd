"""What tests of the service share with those of the flows: a small run of the loop."""

from tests.flows.conftest import loop, plain_flows, run_improve

__all__ = ["loop", "plain_flows", "run_improve"]
