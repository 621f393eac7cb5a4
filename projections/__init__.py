"""Tables from the log: recipes, snapshots, and the built-in read models."""

from projections.builder import rebuild, refresh
from projections.catalog import BUILT_IN_TABLES, default_projections, describe, projection
from projections.diff import DiffCounts, TableDiff, diff_moments, diff_tables
from projections.digest import ContentDigest, content_digest
from projections.execution_diff import EXECUTION_DIFF_TABLES, ExecutionDiff, diff_executions
from projections.handle_answers import HANDLE_TABLES, TableHandles, current_handles, handle_lineage
from projections.keyed import KeyedProjection, from_payload
from projections.manifest import Manifest
from projections.projection import Column, GeneralProjection, Projection, moment, text, whole
from projections.prune import Leftover, plan_prune, prune
from projections.registry import ProjectionRegistry
from projections.reproduce import Reproduced, reproduce
from projections.snapshot import Snapshot, find_snapshot
from projections.tables import Fresh, Tables, open_tables, position_of
from projections.tag_answers import TAG_TABLES, TableTags, current_tags, tag_history, tagged_entities

open = open_tables  # noqa: A001 - to be called as projections.open(store)

__all__ = [
    "BUILT_IN_TABLES",
    "EXECUTION_DIFF_TABLES",
    "HANDLE_TABLES",
    "TAG_TABLES",
    "Column",
    "ContentDigest",
    "DiffCounts",
    "ExecutionDiff",
    "Fresh",
    "GeneralProjection",
    "KeyedProjection",
    "Leftover",
    "Manifest",
    "Projection",
    "ProjectionRegistry",
    "Reproduced",
    "Snapshot",
    "TableDiff",
    "TableHandles",
    "TableTags",
    "Tables",
    "content_digest",
    "current_handles",
    "current_tags",
    "default_projections",
    "describe",
    "diff_executions",
    "diff_moments",
    "diff_tables",
    "find_snapshot",
    "from_payload",
    "handle_lineage",
    "moment",
    "open_tables",
    "plan_prune",
    "position_of",
    "projection",
    "prune",
    "rebuild",
    "refresh",
    "reproduce",
    "tag_history",
    "tagged_entities",
    "text",
    "whole",
]
