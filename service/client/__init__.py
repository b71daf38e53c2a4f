"""The Python client of the service, for an OMS: ``Concord``, and ``AsyncConcord`` to await.

It knows the service by HTTP only. docs/client.md shows a day from its opening to its report;
service/client/adapters.py reads CSV files, data frames and bars. Needs the extra ``client``.
"""

from service.client.commands import Command
from service.client.concord import AsyncConcord, Concord
from service.client.errors import (
    BadInput,
    ConcordError,
    Conflict,
    Failed,
    FieldError,
    Invalid,
    NotFound,
    Problem,
    ProtocolError,
    Refused,
    Unauthorized,
    Unavailable,
)
from service.client.replies import (
    Bookings,
    Child,
    Day,
    Decision,
    Instructed,
    Probe,
    Record,
    Reply,
    State,
)
from service.client.reports import Models, Report

__all__ = [
    "AsyncConcord",
    "BadInput",
    "Bookings",
    "Child",
    "Command",
    "Concord",
    "ConcordError",
    "Conflict",
    "Day",
    "Decision",
    "Failed",
    "FieldError",
    "Instructed",
    "Invalid",
    "Models",
    "NotFound",
    "Probe",
    "Problem",
    "ProtocolError",
    "Record",
    "Refused",
    "Reply",
    "Report",
    "State",
    "Unauthorized",
    "Unavailable",
]
