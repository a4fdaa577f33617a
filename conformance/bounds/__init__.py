"""A-priori rounding-error bounds: functions of format, length, spread and contract."""
