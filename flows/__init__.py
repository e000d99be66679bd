"""Flows: the only place that knows Prefect. Read `improve.py` first."""

from flows.environment import before_prefect

before_prefect()
