"""Tables from the log: recipes, snapshots, and the built-in read models."""

from projections.builder import rebuild
from projections.catalog import BUILT_IN_TABLES, default_projections, describe, projection
from projections.digest import content_digest
from projections.keyed import KeyedProjection, from_payload
from projections.projection import Column, GeneralProjection, Projection, moment, text, whole
from projections.registry import ProjectionRegistry
from projections.snapshot import Manifest, Snapshot, check_snapshot, find_snapshot, publish
from projections.tables import Tables, open_tables

__all__ = [
    "BUILT_IN_TABLES",
    "Column",
    "GeneralProjection",
    "KeyedProjection",
    "Manifest",
    "Projection",
    "ProjectionRegistry",
    "Snapshot",
    "Tables",
    "check_snapshot",
    "content_digest",
    "default_projections",
    "describe",
    "find_snapshot",
    "from_payload",
    "moment",
    "open_tables",
    "projection",
    "publish",
    "rebuild",
    "text",
    "whole",
]
