"""Judging rows: each row of a source is good, or bad for one named reason."""

from collections.abc import Sequence

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend

from models.contract.ids import MAX_ID_LENGTH
from models.data.errors import BadRowsError, SourceError
from models.data.report import SourceReport
from models.data.sections import InteractionsSection
from models.data.sources import id_column, is_parquet, require_columns

MAX_EVENT_TYPE_LENGTH = 64
LATEST_TIME_MS = 4_102_444_800_000  # 2100-01-01: later times are milliseconds read as seconds, or the like
MAX_NUMBER = 3.4e38  # the largest float32: what is stored
_MS_PER_UNIT = {"s": 1000.0, "ms": 1.0, "us": 0.001, "position": 1.0}


def judge_interactions(table: ir.Table, section: InteractionsSection, *, timed: bool = True) -> ir.Table:
    """One row for each row of the source, in no order.

    Columns: user_id, item_id, event_type, context_0.. (string), time_ms (int64), value, numeric_0.. (float64), and
    reason: null for a good row, else what is wrong or why it is left out. What is missing is null. timed: False reads
    no timestamp; time_ms is then 0.
    """
    path = section.path
    optional = [name for name in (section.timestamp if timed else None, section.event_type, section.value) if name]
    columns = [section.user_id, section.item_id, *optional, *section.context, *section.numeric]
    require_columns(table, path, columns)
    rows = {
        "user_id": id_column(table, path, section.user_id),
        "item_id": id_column(table, path, section.item_id),
        "time_ms": read_time_ms(table, path, section.timestamp, section.time_unit, "interactions")
        if timed
        else ibis.literal(0, "int64"),
        "event_type": _event_type(table, section),
        "value": finite_number(table, path, section.value) if section.value else ibis.literal(0.0),
        "value_given": table[section.value].notnull() if section.value else ibis.literal(True),
    }
    rows |= {f"context_{i}": table[name].cast("string") for i, name in enumerate(section.context)}
    rows |= {f"numeric_{i}": finite_number(table, path, name) for i, name in enumerate(section.numeric)}
    judged = table.select(**rows, wrong_number=number_reason(table, path, section.numeric))
    judged = judged.mutate(
        reason=ibis.cases(
            *id_reasons(judged.user_id, "user_id"),
            *id_reasons(judged.item_id, "item_id"),
            (judged.time_ms.isnull(), time_reason(section.time_unit)),
            (judged.event_type.length() > MAX_EVENT_TYPE_LENGTH, f"event_type over {MAX_EVENT_TYPE_LENGTH} characters"),
            (judged.value_given & judged.value.isnull(), "value is not a finite number"),
            (judged.wrong_number.notnull(), judged.wrong_number),
            *([] if section.min_value is None else [(judged.value < section.min_value, below_reason(section))]),
        )
    )
    return judged.drop("value_given", "wrong_number")


def below_reason(section: InteractionsSection) -> str:
    """Why a good row of too small a value is left out. A row without a value stays."""
    return f"value below {section.min_value}"


def judge_ids(rows: ir.Table, column: str) -> ir.Table:
    """`reason` added to rows of items or users, whose `id` came from `column`."""
    return rows.mutate(reason=ibis.cases(*id_reasons(rows.id, column)))


def judge_pairs(rows: ir.Table, columns: tuple[str, str]) -> ir.Table:
    """`reason` added to edges, whose `id` and `other` came from the two columns."""
    reasons = [*id_reasons(rows.id, columns[0]), *id_reasons(rows.other, columns[1])]
    return rows.mutate(reason=ibis.cases(*reasons))


def count_rows(
    connection: Backend, judged: ir.Table, missing: dict[str, ir.BooleanValue], left_out: str | None = None
) -> SourceReport:
    """Rows, bad ones by reason, and missing values of the good ones by column.

    left_out: the one reason that makes no bad row.
    """
    by_reason = judged.group_by("reason").agg(rows=judged.count()).order_by("reason")
    counts = {row["reason"]: row["rows"] for row in connection.to_pyarrow(by_reason).to_pylist()}
    absent: dict[str, int] = {}
    if missing:
        sums = [ibis.ifelse(judged.reason.isnull() & test, 1, 0).sum().name(name) for name, test in missing.items()]
        absent = connection.to_pyarrow(judged.agg(sums)).to_pylist()[0]
    return SourceReport(
        rows=sum(counts.values()),
        bad={reason: count for reason, count in counts.items() if reason not in (None, left_out)},
        missing={name: count for name, count in absent.items() if count},
        left_out={reason: count for reason, count in counts.items() if reason is not None and reason == left_out},
    )


def require_good(report: SourceReport, path: str, max_bad_share: float) -> None:
    """Raise BadRowsError if there are no rows, no good rows, or too many bad ones."""
    if report.rows == 0:
        raise BadRowsError(f"{path}: has no rows")
    reasons = "; ".join(f"{reason}: {count:,}" for reason, count in report.bad.items())
    share = report.num_bad / report.rows
    if share > max_bad_share:
        raise BadRowsError(
            f"{path}: {report.num_bad:,} of {report.rows:,} rows ({share:.2%}) are bad, more than "
            f"limits.max_bad_share = {max_bad_share:.2%}: {reasons}. Correct them, or raise the limit"
        )
    if report.num_bad == report.rows:
        raise BadRowsError(f"{path}: has no good row: {reasons}")


def finite_number(table: ir.Table, path: str, column: str) -> ir.FloatingValue:
    """A column as float64; null where it is missing, not a number, or not a finite float32."""
    values = table[column]
    if not isinstance(values.type(), dt.Numeric | dt.String):  # a boolean counts as numeric
        raise SourceError(f"{path}: column {column!r} is {values.type()}; numbers are expected")
    number = values.try_cast("float64")
    return ibis.ifelse(number.isnan() | (number.abs() > MAX_NUMBER), ibis.null("float64"), number)


def number_reason(table: ir.Table, path: str, columns: Sequence[str]) -> ir.StringValue:
    """Which of these numbers of each row was given and is none that `finite_number` takes; null where all are missing
    or good.

    Empty text is no value, and neither is NaN in Parquet's floats: pandas writes a missing number so.
    """
    if not columns:
        return ibis.null("string")
    nan_is_missing = is_parquet(path)
    reasons = []
    for column in columns:
        values = table[column]
        given = values.notnull()
        if isinstance(values.type(), dt.String):
            given = values.strip() != ""
        elif nan_is_missing and isinstance(values.type(), dt.Floating):
            given = given & ~values.isnan()
        reasons.append((given & finite_number(table, path, column).isnull(), f"{column} is not a finite number"))
    return ibis.cases(*reasons)


def id_reasons(ids: ir.StringValue, name: str) -> list[tuple[ir.BooleanValue, str]]:
    return [
        (ids.isnull(), f"{name} is missing"),
        (ids == "", f"{name} is empty"),
        (ids.length() > MAX_ID_LENGTH, f"{name} over {MAX_ID_LENGTH} characters"),
    ]


def _event_type(table: ir.Table, section: InteractionsSection) -> ir.StringValue:
    if section.event_type is None:
        return ibis.literal(section.default_event_type)
    return table[section.event_type].cast("string").nullif("")


def read_time_ms(table: ir.Table, path: str, column: str, unit: str | None, section: str) -> ir.IntegerValue:
    """Milliseconds since 1970 UTC; null where there is no readable time between 1970 and 2100.

    unit: time_unit of the section of this name.
    """
    values = table[column]
    if unit is not None:
        number = finite_number(table, path, column) * _MS_PER_UNIT[unit]
        readable = number.between(0, LATEST_TIME_MS)
        if unit == "position":
            readable = readable & (number == number.floor())
        return ibis.ifelse(readable, number, ibis.null("float64")).round().cast("int64")
    if isinstance(values.type(), dt.Numeric):
        raise SourceError(f"{path}: column {column!r} holds numbers; set {section}.time_unit")
    if not isinstance(values.type(), dt.String | dt.Timestamp | dt.Date):
        raise SourceError(f"{path}: column {column!r} is {values.type()}; times are expected")
    # TIMESTAMP would ignore the offset in "10:00+02:00"; TIMESTAMPTZ honours it.
    time = values.try_cast(dt.Timestamp(timezone="UTC")).cast("timestamp")
    in_range = time.between(ibis.timestamp("1970-01-01"), ibis.timestamp("2100-01-01"))
    time = ibis.ifelse(in_range, time, ibis.null("timestamp"))
    return epoch_ms(time)


def epoch_ms(time: ir.TimestampValue) -> ir.IntegerValue:
    """Milliseconds since 1970 of a timestamp without a zone."""
    return time.truncate("s").epoch_seconds().cast("int64") * 1000 + time.millisecond().cast("int64")


def time_reason(unit: str | None) -> str:
    if unit == "position":
        return "timestamp is not a position: a whole number from 0 on"
    hint = f"as a number in {unit}" if unit else "as ISO 8601 (for numbers set time_unit)"
    return f"timestamp missing, not readable {hint}, or not in 1970 to 2100"
