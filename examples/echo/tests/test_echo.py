def test_echo(prefab):
    assert prefab.call("echo", text="你好") == {"success": True, "text": "你好"}


def test_count(prefab):
    assert list(prefab.call("count", n=2)) == [
        {"type": "progress", "data": {"current": 1, "total": 2}},
        {"type": "content", "data": "1\n"},
        {"type": "progress", "data": {"current": 2, "total": 2}},
        {"type": "content", "data": "2\n"},
        {"type": "done", "data": {"success": True, "counted": 2}},
    ]
    assert [event["data"] for event in prefab.call("count", n=0)] == [{"success": True, "counted": 0}]


def test_count_waits(prefab, monkeypatch):
    waits = []
    monkeypatch.setattr(prefab.main.time, "sleep", waits.append)
    list(prefab.call("count", n=3, delay=0.5))
    assert waits == [0.5, 0.5, 0.5]


def test_count_refuses(prefab):
    for arguments in ({"n": -1}, {"n": 10_001}, {"n": 1, "delay": -1}):
        (done,) = prefab.call("count", **arguments)
        assert done["data"]["error_code"] == "INVALID_PARAMETER"


def test_shout(prefab):
    assert prefab.call("shout", text="quiet, 安静")["success"]
    assert prefab.outputs() == {"shout.txt": "QUIET, 安静\n".encode()}
