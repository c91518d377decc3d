"""What `make serve` writes."""

from __future__ import annotations

import configparser
import contextlib
import socket
import stat
import subprocess
from pathlib import Path

import pytest
from redis import AuthenticationError, Redis
from redis import ConnectionError as RedisConnectionError

from deploy.local.layout import (
    Layout,
    build_commands,
    build_environment,
    build_supervisor_config,
    find_free_port,
    list_groups,
    reserve_port,
)
from deploy.local.secret import write_secret
from tests.support.system import wait_for
from tests.support.waiting import TIMEOUT_S


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "a folder, with % and spaces")
    made.make_folders()
    return made


def test_every_stage_is_served_by_exactly_one_group() -> None:
    from workers.app import STAGES

    served = [stage for stages in list_groups().values() for stage in stages]
    assert sorted(served) == sorted(STAGES)


def test_the_token_is_made_once_and_only_its_owner_reads_it(layout: Layout) -> None:
    assert layout.load_token() == layout.load_token()
    assert len(layout.load_token()) >= 32
    assert stat.S_IMODE((layout.home / "token").stat().st_mode) == 0o600
    assert stat.S_IMODE(layout.home.stat().st_mode) == 0o700


def test_redis_has_a_password_that_no_command_line_shows(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PALIMPSEST_BROKER_URL", raising=False)
    password = layout.load_redis_password()
    assert password == layout.load_redis_password() != layout.load_token()
    assert stat.S_IMODE((layout.home / "redis-password").stat().st_mode) == 0o600
    _, config = build_commands(layout, 1, 2, {})["redis"]
    assert stat.S_IMODE(Path(config).stat().st_mode) == 0o600
    assert f'requirepass "{password}"' in Path(config).read_text().splitlines()
    assert not [
        word
        for command in build_commands(layout, 1, 2, {}).values()
        for word in command
        if password in word
    ]
    assert (
        build_environment(layout, 6379, 1)["PALIMPSEST_BROKER_URL"]
        == f"redis://:{password}@127.0.0.1:6379/0"
    )
    monkeypatch.setenv("PALIMPSEST_BROKER_URL", "redis://elsewhere/0")
    assert build_environment(layout, 6379, 1)["PALIMPSEST_BROKER_URL"] == "redis://elsewhere/0"


def test_the_redis_of_a_folder_lets_nobody_in_without_its_password(layout: Layout) -> None:
    port = find_free_port()
    with subprocess.Popen(
        build_commands(layout, port, 2, {})["redis"], stdout=subprocess.DEVNULL
    ) as server:
        stranger, guest = (
            Redis(port=port, password=word) for word in (None, layout.load_redis_password())
        )
        try:
            wait_for(lambda: answers(guest), TIMEOUT_S, "it is up")
            with pytest.raises(AuthenticationError):
                stranger.ping()
            assert guest.config_get("dir")["dir"] == str(layout.home / "redis")
        finally:
            server.terminate()


def answers(redis: Redis) -> bool:
    with contextlib.suppress(RedisConnectionError):
        return bool(redis.ping())
    return False


def test_a_taken_port_is_not_chosen() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert find_free_port(taken.getsockname()[1]) != taken.getsockname()[1]


def test_two_that_start_at_the_same_moment_get_two_ports() -> None:
    preferred = find_free_port()
    first, lock = reserve_port(preferred)
    second, other = reserve_port(preferred)  # nobody listens on it yet
    assert first == preferred
    assert second != first
    lock.close()
    again, third = reserve_port(preferred)
    assert again == preferred
    other.close()
    third.close()


def test_the_configuration_reads_back_through_percent_signs_and_spaces(layout: Layout) -> None:
    commands = build_commands(layout, 1, 2, {"attack": 2, "unlearn": 0})
    env = build_environment(layout, 1, 4)
    parser = configparser.ConfigParser()
    parser.read_string(build_supervisor_config(layout, commands, env))
    names = {s.removeprefix("program:") for s in parser.sections() if s.startswith("program:")}
    assert names == {
        "redis", "gateway", "reconciler", "worker-train-1", "worker-attack-1", "worker-attack-2", "worker-evaluate-1",
    }  # fmt: skip
    assert f'"{layout.home}/redis/redis.conf"' in parser["program:redis"]["command"]
    assert env["PALIMPSEST_DATABASE_URL"] in parser["supervisord"]["environment"]
    assert all(parser[f"program:{n}"]["autorestart"] == "true" for n in names)


def test_workers_share_the_cores_and_the_memory(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert build_environment(layout, 1, 4)["PALIMPSEST_THREADS"] == "2"
    assert build_environment(layout, 1, 100)["PALIMPSEST_THREADS"] == "1"
    assert build_environment(layout, 1, 100)["PALIMPSEST_HOST_WORKERS"] == "100"


def test_what_the_user_has_set_goes_first(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_DATABASE_URL", "postgresql+psycopg://elsewhere/db")
    assert (
        build_environment(layout, 1, 4)["PALIMPSEST_DATABASE_URL"]
        == "postgresql+psycopg://elsewhere/db"
    )


def test_a_secret_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_secret(path, "one")
    write_secret(path, "two")
    assert path.read_text() == "two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["secret"]
