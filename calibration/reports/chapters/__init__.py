"""Chapters of a report: functions of frames that return lines with verdicts, and curves to draw."""
