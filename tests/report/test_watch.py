import socket
import threading
import urllib.error
import urllib.request

import pytest

from dynapilco.core.errors import UserError
from dynapilco.report.watching import address, fingerprint, make_server


@pytest.fixture
def serve():
    """Serve a folder: ``get(path)`` gives status and text."""
    servers = []

    def begin(folder):
        server = make_server(folder)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def get(path="", **headers):
            request = urllib.request.Request(address(server) + path, headers=headers)
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, ""

        return server, get

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_page_is_served_to_this_machine_alone(tmp_path, make, serve):
    server, get = serve(make.run(tmp_path / "a"))
    assert server.server_address[0] == "127.0.0.1"
    status, text = get()
    assert status == 200 and "Solved" in text and 'name="dynapilco-watch"' in text
    assert get("config.toml")[0] == 404 and get("../../etc/passwd")[0] == 404
    assert get(Host="evil.example")[0] == 403 and get(Host=f"localhost:{server.server_address[1]}")[0] == 200
    assert not (tmp_path / "a/report.html").exists()


def test_the_page_is_made_anew_when_files_change(tmp_path, make, serve):
    folder = make.run(tmp_path / "a", trials=2, finished=False)
    _, get = serve(folder)
    version, text = get("version")[1], get()[1]
    assert "2 trials so far" in text and f'content="{version}"' in text
    assert get()[1] == text
    make.run(folder, trials=3, finished=False)
    assert get("version")[1] != version and "3 trials so far" in get()[1]


def test_a_run_without_a_trial_is_waited_for(tmp_path, make, serve):
    folder = make.run(tmp_path / "a", trials=0, finished=False)
    _, get = serve(folder)
    assert "no finished trial yet" in get()[1]
    make.run(folder, trials=2, finished=False)
    assert "2 trials so far" in get()[1]


def test_a_file_that_was_not_there_changes_the_fingerprint(tmp_path, make):
    folder = make.run(tmp_path / "a")
    before = fingerprint(folder)
    assert fingerprint(folder) == before
    (folder / "fans/trial-003.json").unlink()
    assert fingerprint(folder) != before


def test_a_port_that_is_taken(tmp_path, make, cli):
    folder = make.run(tmp_path / "a")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port={port} is in use"):
            make_server(folder, port)
        code, _, err = cli("report", folder, "--watch", "--port", port)
    assert code == 2 and err.count("\n") == 1 and "is in use: give another one" in err
    with pytest.raises(UserError, match="expected 0"):
        make_server(folder, 70000)
    with pytest.raises(UserError, match="is neither"):
        make_server(tmp_path)
