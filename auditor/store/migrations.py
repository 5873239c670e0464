"""The tables, as an append-only list of SQL scripts: script n takes a database from schema version n to n + 1.

Never edit a script that was released; append another. docs/store.md says what each column holds.

No table has a primary key: DuckDB would build an index on the text key of every row, which costs more than the
rows themselves. The writer replaces rows of equal key instead (`auditor.store.tables`).

A new column of a table that is hash-chained (`auditor.store.chain`) must be one that may be NULL, and be added there: what is NULL is left
out of a row's hash, so runs sealed before keep their heads.
"""

from __future__ import annotations

_TABLES = """
CREATE TABLE run (
    run_id VARCHAR NOT NULL, created VARCHAR NOT NULL, finished VARCHAR, status VARCHAR NOT NULL, error VARCHAR,
    spec JSON NOT NULL, spec_hash VARCHAR NOT NULL, model_uri VARCHAR NOT NULL, weights_hash VARCHAR NOT NULL,
    profile VARCHAR NOT NULL, evidence BOOLEAN NOT NULL, git_commit VARCHAR NOT NULL, packages JSON NOT NULL,
    hardware JSON NOT NULL, journal_offset BIGINT NOT NULL
);
CREATE TABLE sample (
    run_id VARCHAR NOT NULL, suite VARCHAR NOT NULL, sample_id VARCHAR NOT NULL, position INTEGER NOT NULL,
    cluster_id VARCHAR NOT NULL, messages JSON NOT NULL, target VARCHAR, choices JSON NOT NULL, source VARCHAR NOT NULL,
    metadata JSON NOT NULL
);
CREATE TABLE generation (
    run_id VARCHAR NOT NULL, suite VARCHAR NOT NULL, sample_id VARCHAR NOT NULL, epoch INTEGER NOT NULL,
    turn INTEGER NOT NULL, slot INTEGER NOT NULL, role VARCHAR NOT NULL, kind VARCHAR NOT NULL, messages JSON NOT NULL,
    options JSON NOT NULL, sampling JSON NOT NULL, seed HUGEINT NOT NULL, text VARCHAR NOT NULL, reasoning VARCHAR NOT NULL,
    finish_reason VARCHAR, logprobs JSON NOT NULL, judgment JSON, prompt_tokens BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL, reasoning_tokens BIGINT NOT NULL, latency DOUBLE, model VARCHAR NOT NULL, error VARCHAR
);
CREATE TABLE score (
    run_id VARCHAR NOT NULL, suite VARCHAR NOT NULL, sample_id VARCHAR NOT NULL, epoch INTEGER NOT NULL,
    scorer VARCHAR NOT NULL, turn INTEGER NOT NULL, slot INTEGER NOT NULL, value DOUBLE, status VARCHAR NOT NULL,
    answer VARCHAR NOT NULL, explanation VARCHAR NOT NULL
);
CREATE TABLE metric (
    run_id VARCHAR NOT NULL, suite VARCHAR NOT NULL, name VARCHAR NOT NULL, group_name VARCHAR NOT NULL,
    position INTEGER NOT NULL, value DOUBLE, ci_low DOUBLE, ci_high DOUBLE, ci_level DOUBLE, ci_method VARCHAR,
    n BIGINT NOT NULL, n_clusters BIGINT NOT NULL, n_unscored BIGINT NOT NULL, higher_is_better BOOLEAN,
    unit VARCHAR NOT NULL, design_effect DOUBLE, judge_based BOOLEAN NOT NULL, reason VARCHAR NOT NULL, flags JSON NOT NULL
);
CREATE TABLE verdict (
    run_id VARCHAR NOT NULL, suite VARCHAR NOT NULL, metric VARCHAR NOT NULL, group_name VARCHAR NOT NULL,
    position INTEGER NOT NULL, outcome VARCHAR NOT NULL, bound DOUBLE NOT NULL, direction VARCHAR NOT NULL,
    source VARCHAR NOT NULL, rationale VARCHAR NOT NULL, required BOOLEAN NOT NULL, reason VARCHAR NOT NULL,
    n_needed BIGINT, p_value DOUBLE, p_adjusted DOUBLE, metric_record JSON
);
"""

_TRAINING = """
CREATE TABLE training_run (
    training_id VARCHAR NOT NULL, created VARCHAR NOT NULL, status VARCHAR NOT NULL, recipe_name VARCHAR NOT NULL, recipe_hash VARCHAR NOT NULL,
    recipe JSON NOT NULL, out VARCHAR NOT NULL, seed BIGINT NOT NULL, model VARCHAR NOT NULL, environment JSON NOT NULL
);
CREATE TABLE training_stage (
    training_id VARCHAR NOT NULL, stage VARCHAR NOT NULL, position INTEGER NOT NULL, method VARCHAR NOT NULL, steps BIGINT NOT NULL,
    complete BOOLEAN NOT NULL, kind VARCHAR, path VARCHAR, weights_hash VARCHAR, measured JSON NOT NULL, lineage JSON NOT NULL
);
CREATE TABLE training_step (
    training_id VARCHAR NOT NULL, stage VARCHAR NOT NULL, step BIGINT NOT NULL, name VARCHAR NOT NULL, value DOUBLE
);
"""

_CHAIN = """
ALTER TABLE run ADD COLUMN head VARCHAR;
CREATE TABLE chain (
    run_id VARCHAR NOT NULL, position BIGINT NOT NULL, table_name VARCHAR NOT NULL, row_key VARCHAR NOT NULL, link BLOB NOT NULL
);
"""

MIGRATIONS: tuple[str, ...] = (_TABLES, _TRAINING, _CHAIN)
