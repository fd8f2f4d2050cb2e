"""How does a prediction outlive the process that made it, until Kafka has it?

A spool is a folder of append-only segments that belongs to one process life. Calls are written before they are
answered; a sender reads them back and hands them on; what a dead process left is drained by the next one.
"""

from perennial.spool.records import Part, StreamInfo, Text
from perennial.spool.sender import Outgoing, Sender
from perennial.spool.spool import Spool, SpoolFull, Stream, orphans

__all__ = ["Outgoing", "Part", "Sender", "Spool", "SpoolFull", "Stream", "StreamInfo", "Text", "orphans"]
