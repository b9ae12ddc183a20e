"""Who the processes of a trial are, read from Slurm's variables."""

import pytest

from xautolm_hpc.errors import InputError
from xautolm_hpc.train.process_group import FIRST_PORT, N_PORTS, Seat, Team, expand_nodes, port_of, read_seat, read_team

IN_SLURM = {
    "SLURM_STEP_NUM_NODES": "3",
    "SLURM_STEP_NODELIST": "no-such-host-[08-10]",
    "SLURM_NODEID": "2",
    "SLURM_JOB_ID": "4711",
    "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.8",
}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n1", ["n1"]),
        ("n1,n2", ["n1", "n2"]),
        ("gpu[01-03,7],login", ["gpu01", "gpu02", "gpu03", "gpu7", "login"]),
        ("rack[1-2]-node[09-10]", ["rack1-node09", "rack1-node10", "rack2-node09", "rack2-node10"]),
        ("a[99-101].site", ["a99.site", "a100.site", "a101.site"]),
        ("", []),
    ],
)
def test_slurms_notation_of_nodes_is_expanded(text: str, names: list[str]) -> None:
    assert expand_nodes(text) == names


@pytest.mark.parametrize(("text", "fault"), [("n[1-2", "is not closed"), ("n[1-x]", "'1-x' is no range")])
def test_a_list_of_nodes_that_is_none_is_refused(text: str, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        expand_nodes(text)


def test_the_team_of_a_node_comes_from_slurms_variables() -> None:
    team = read_team(IN_SLURM, 4)

    assert team == Team(n_local=4, n_nodes=3, node=2, address="10.0.0.8", port=FIRST_PORT + 4711)
    assert team.variables(1) == {
        "RANK": "9",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "12",
        "LOCAL_WORLD_SIZE": "4",
        "GROUP_RANK": "2",
        "MASTER_ADDR": "10.0.0.8",
        "MASTER_PORT": str(FIRST_PORT + 4711),
    }
    assert read_seat(team.variables(1)) == Seat(rank=9, n_ranks=12, local=1, n_local=4, node=2)


def test_a_first_node_whose_name_is_known_is_met_by_its_name() -> None:
    known = {**IN_SLURM, "SLURM_STEP_NODELIST": "localhost,n[2-3]"}

    assert read_team(known, 1).address == "localhost"


def test_on_one_node_processes_meet_at_home() -> None:
    first, second = read_team({}, 2), read_team({"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_NODES": "1"}, 2)

    assert (first.address, first.n_nodes, first.node) == ("127.0.0.1", 1, 0)
    assert (second.address, second.n_nodes, second.node) == ("127.0.0.1", 1, 0)


def test_a_list_of_other_nodes_than_those_counted_is_refused() -> None:
    with pytest.raises(InputError, match=r"SLURM_STEP_NODELIST names 2 nodes, SLURM_STEP_NUM_NODES is 3"):
        read_team({**IN_SLURM, "SLURM_STEP_NODELIST": "n[1-2]"}, 1)


def test_ports_differ_between_jobs_and_stay_below_those_the_kernel_hands_out() -> None:
    assert port_of("1") != port_of("2")
    assert FIRST_PORT <= port_of(str(10**9 + 7)) < FIRST_PORT + N_PORTS < 32_768


def test_a_process_that_nobody_seated_is_alone() -> None:
    assert read_seat({}) == Seat(rank=0, n_ranks=1, local=0, n_local=1, node=0)
    assert Seat().is_first
    assert Seat().reads_energy
