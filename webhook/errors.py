"""Every exception that Forestall raises on purpose.

ForestallError
├── BadReview          a request that is not an AdmissionReview v1
├── BadQuantity        text that is not a Kubernetes quantity
├── BadImage           text that is not an image reference
├── BadConfig          a configuration that cannot be used, with its line
├── BadObject          an object whose fields are not of the kind that Kubernetes gives them
├── BadCertificate     a serving certificate and key that cannot be used
├── BadManifest        a document that cannot be read, with its file and line
├── FactsUnavailable   the cluster, or a facts file, could not be read
│   └── TooLarge       an answer is larger than the reader wants to hold
├── ClusterRefused     the API server answered, and said no
│   └── Conflict       somebody else was first
├── Undelivered        the receiver of notifications did not take one
├── SystemRefused      a port that is taken, an output that is full or closed
└── TimeUp             the API server no longer waits for the answer
"""


class ForestallError(Exception):
    """The root of the tree; its text is one line that a person can act on."""


def one_line(error: BaseException) -> str:
    """What an exception of any package says, in one line; its type where it says nothing."""
    if len(error.args) == 2 and isinstance(error.args[1], Exception):  # urllib3's ProtocolError wraps the cause so
        error = error.args[1]
    return " ".join(str(error).split()) or type(error).__name__


class BadReview(ForestallError):
    """The bytes are no AdmissionReview v1; answered with HTTP 400."""


class BadQuantity(ForestallError, ValueError):
    """Not a Kubernetes quantity."""


class BadImage(ForestallError, ValueError):
    """Not an image reference."""


class BadConfig(ForestallError):
    """A configuration that cannot be used: each of `errors` names file, line, field and value."""

    def __init__(self, *errors: str) -> None:
        super().__init__(*errors)
        self.errors = errors

    def __str__(self) -> str:
        return "; ".join(self.errors)


class BadCertificate(ForestallError):
    """A serving certificate and key that cannot be read, or don't belong together."""


class BadObject(ForestallError):
    """A field holds another kind of value than Kubernetes gives it: "spec.containers is a string, not a list"."""


class BadManifest(ForestallError):
    """A document that cannot be read as Kubernetes objects.

    `is_foreign`: it may well be something else, such as a package.json.
    """

    def __init__(self, file: str, line: int, message: str, is_foreign: bool = False) -> None:
        super().__init__(file, line, message, is_foreign)  # so that it survives being sent to another process
        self.file = file
        self.line = line
        self.message = message
        self.is_foreign = is_foreign

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


class FactsUnavailable(ForestallError):
    """The cluster, or a facts file, could not be read."""


class TooLarge(FactsUnavailable):
    """An answer of the API server has more bytes than the reader wants to hold; the rest of it was not read."""


class ClusterRefused(ForestallError):
    """The API server's answer to a call was no: its HTTP status, the reason ("Forbidden"), and what it said.

    `retry_after` is how many seconds it wants to be left alone; `token` where a list that took too long goes on.
    """

    def __init__(self, status: int, reason: str, message: str, *, retry_after: float = 0.0, token: str = "") -> None:
        super().__init__(status, reason, message)
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        self.token = token

    def __str__(self) -> str:
        return f"{' '.join(self.message.split())} ({self.status})"

    @property
    def is_busy(self) -> bool:
        """Whether the API server has no time now, so that the same call may be answered later."""
        return self.status == 429

    @property
    def is_of_one_object(self) -> bool:
        """Whether the next object may be taken: this one is forbidden, gone, changed, invalid or too large. Any other
        status tells of trouble with all objects."""
        # What the API server takes and etcd doesn't is an internal error to it.
        is_too_large = self.status == 413 or (self.status == 500 and "request is too large" in self.message)
        return is_too_large or self.status in (400, 403, 404, 409, 422)

    @property
    def is_gone(self) -> bool:
        """Whether what it is about is gone, or goes: the object, its kind, or a namespace that is being deleted."""
        return self.status == 404 or "being terminated" in self.message


class Conflict(ClusterRefused):
    """Somebody else was first: the object has changed since it was read, or is there already. Read it again."""


class Undelivered(ForestallError):
    """The receiver did not take a notification. The text never holds its URL, which may be a secret."""


class SystemRefused(ForestallError):
    """The operating system said no: to listening on a port, to writing the output."""


class TimeUp(ForestallError):
    """The API server's timeout passed before the decision was made."""


UNREADABLE = (BadObject, BadQuantity, BadImage)
"""What an object raises that its own fields make unreadable."""

NOT_OURS = (*UNREADABLE, FactsUnavailable)
"""What a policy raises without a bug in it: the object, or the facts, could not be read."""
