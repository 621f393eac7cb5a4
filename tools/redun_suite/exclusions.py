"""Tests of redun's suite that are not run on our backend, each with its reason."""

from __future__ import annotations

__all__ = ["EXCLUDED", "REASONS"]

SQL = "sql"
RACE = "race"
SOFTWARE = "software"

REASONS = {
    SQL: "of SQL storage itself: migration, connections, transactions, written rows, clones, retries",
    RACE: "races in redun itself",
    SOFTWARE: "for want of software: fails with redun's own backend here, too",
}

EXCLUDED: dict[str, str] = {
    "test_cli.py::test_cli_migrate": SQL,
    "test_dataflow.py::test_default_argument_names": SQL,  # changes a row
    "test_db.py::test_call_graph_db": SQL,  # switches foreign keys off, and records calls of nothing
    "test_db.py::test_db_automigrate": SQL,
    "test_db.py::test_db_automigrate_scheduler": SQL,
    "test_db.py::test_db_backend_clone": SQL,
    "test_db.py::test_db_migrate": SQL,
    "test_db.py::test_db_migrate_minor": SQL,
    "test_db.py::test_db_retries": SQL,
    "test_db.py::test_json_field": SQL,  # writes rows of its own
    "test_db.py::test_race_condition_record_value": SQL,  # its fault is one of a SQL commit
    "test_scheduler.py::test_cse_scopes": RACE,
    "test_aws_batch.py::test_iter_batch_job_logs": SOFTWARE,  # moto forgets events of that age
    "test_aws_glue.py": SOFTWARE,  # needs moto 3
    "test_cli.py::test_aws_logs": SOFTWARE,  # moto forgets events of that age
    "test_glue_helpers.py::test_sql_query": SOFTWARE,  # needs pyspark
    "test_glue_helpers.py::test_udf_with_spark": SOFTWARE,
    "test_glue_helpers.py::test_udf_without_spark": SOFTWARE,
    "test_k8s.py::test_executor": SOFTWARE,  # newer clients check types
    "test_k8s.py::test_k8s_submit_cpu_limits": SOFTWARE,
    "test_k8s.py::test_k8s_submit_with_env": SOFTWARE,
    "test_k8s.py::test_k8s_submit_with_node_affinity": SOFTWARE,
    "test_k8s.py::test_k8s_submit_with_volumes": SOFTWARE,
    "test_static_analysis.py": SOFTWARE,  # imports all of redun, with sphinx and pyspark
    "test_version.py::test_version_matches_pyproject": SOFTWARE,  # needs redun's repository
}
"""File, or file and test, to the reason."""
