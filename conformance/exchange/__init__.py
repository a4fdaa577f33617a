"""Subjects judged by what they answered on another machine."""
