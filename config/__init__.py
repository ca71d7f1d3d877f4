"""Settings, names and connections that every part of sendcode shares."""

# The names that Celery, Redis and Flower show; each is defined here and nowhere else.
EVENT_QUEUE = "send-code.event"
BATCH_QUEUE = "send-code.batch"
WEBHOOK_QUEUE = "send-code.webhook"
DEAD_LETTER_QUEUE = "send-code.dead-letter"
"""A Redis list of job ids that nobody consumes; workers list it so that Flower shows its depth."""

SEND_CODE_TASK = "send_code"
DELIVER_TASK = "deliver_outcome"

QUEUES = (EVENT_QUEUE, BATCH_QUEUE, WEBHOOK_QUEUE)
"""By priority: a worker empties the first before it takes from the second."""
TASK_OF = {EVENT_QUEUE: SEND_CODE_TASK, BATCH_QUEUE: SEND_CODE_TASK, WEBHOOK_QUEUE: DELIVER_TASK}


def celery_prefix(key_prefix: str) -> str:
    """Return the prefix in Redis of the queues' names and of Celery's other keys and channels.

    It is empty, unless the prefix of the ledger's keys is in braces: in cluster mode, Redis then
    keeps all keys that begin with it on one node.
    """
    return f"{key_prefix}:" if key_prefix.startswith("{") else ""


class SendcodeError(Exception):
    """Base of the errors for what sendcode refuses or cannot do. The message may be shown."""
