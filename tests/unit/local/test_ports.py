from __future__ import annotations

import socket

from infra.local.ports import Ports, is_free


def test_a_wanted_port_is_given_when_free():
    port = Ports().take()
    assert Ports().take(port) == port


def test_a_taken_port_is_exchanged_for_a_free_one():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        assert not is_free(taken)
        given = Ports().take(taken)
    assert given != taken
    assert is_free(given)


def test_no_port_is_given_twice():
    ports = Ports()
    first = ports.take()
    given = [first, ports.take(first), *(ports.take() for _ in range(50))]
    assert len(set(given)) == len(given)


def test_no_port_is_given_to_two_stacks_that_start_at_once():
    with Ports() as one:
        wanted = one.take()
        assert Ports().take(wanted) != wanted
    assert Ports().take(wanted) == wanted


def test_free_ports_are_out_of_reach_of_outgoing_connections():
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        lowest_ephemeral = int(file.read().split()[0])
    ports = Ports()
    assert all(ports.take() < lowest_ephemeral for _ in range(50))


def test_a_taken_port_is_told_with_the_one_instead(caplog):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        given = Ports().take(taken, "members")
    assert [r.getMessage() for r in caplog.records] == [f"port {taken} of members is taken; it gets {given}"]
