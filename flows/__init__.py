"""Flows: the only place that knows Prefect, and where `pipeline` and `storage` meet. Read `improve.py` first."""

from flows.settings import before_prefect

before_prefect()
