"""Settings, names and connections that every part of sendcode shares."""

# The names that Celery, Redis and Flower show: each is written here and nowhere else.
EVENT_QUEUE = "send-code.event"
BATCH_QUEUE = "send-code.batch"
WEBHOOK_QUEUE = "send-code.webhook"
DEAD_LETTER_QUEUE = "send-code.dead-letter"
"""A Redis list of job ids that nobody consumes; workers list it so that Flower shows its depth."""

SEND_CODE_TASK = "send_code"
DELIVER_TASK = "deliver_outcome"

QUEUES = (EVENT_QUEUE, BATCH_QUEUE, WEBHOOK_QUEUE)
"""In order of priority: a worker empties the first before it touches the second."""
TASK_OF = {EVENT_QUEUE: SEND_CODE_TASK, BATCH_QUEUE: SEND_CODE_TASK, WEBHOOK_QUEUE: DELIVER_TASK}


def celery_prefix(key_prefix: str) -> str:
    """Return what stands before the queues' names, and Celery's other keys and channels, in Redis.

    It is nothing, unless the prefix of the ledger's keys is in braces: in cluster mode, Redis then
    keeps on one server all keys that begin with it.
    """
    return f"{key_prefix}:" if key_prefix.startswith("{") else ""


class SendcodeError(Exception):
    """Base of all that sendcode refuses or cannot do. The text is fit to be shown."""
