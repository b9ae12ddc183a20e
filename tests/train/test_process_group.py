"""The process group of a trial, read from Slurm's variables."""

import pytest

from xautolm_hpc.errors import InputError
from xautolm_hpc.train.process_group import (
    FIRST_PORT,
    N_PORTS,
    ProcessGroup,
    Rank,
    expand_nodes,
    port_of,
    read_process_group,
    read_rank,
)

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


@pytest.mark.parametrize(("text", "fault"), [("n[1-2", "is not closed"), ("n[1-x]", "'1-x' is not a range")])
def test_a_malformed_list_of_nodes_is_an_error(text: str, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        expand_nodes(text)


def test_the_process_group_of_a_node_comes_from_slurms_variables() -> None:
    group = read_process_group(IN_SLURM, 4)

    assert group == ProcessGroup(n_local=4, n_nodes=3, node=2, address="10.0.0.8", port=FIRST_PORT + 4711)
    assert group.variables(1) == {
        "RANK": "9",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "12",
        "LOCAL_WORLD_SIZE": "4",
        "GROUP_RANK": "2",
        "MASTER_ADDR": "10.0.0.8",
        "MASTER_PORT": str(FIRST_PORT + 4711),
    }
    assert read_rank(group.variables(1)) == Rank(index=9, n_ranks=12, local_index=1, n_local=4, node=2)


def test_a_first_node_whose_name_is_known_is_met_by_its_name() -> None:
    known = {**IN_SLURM, "SLURM_STEP_NODELIST": "localhost,n[2-3]"}

    assert read_process_group(known, 1).address == "localhost"


def test_on_one_node_processes_meet_at_the_loopback_address() -> None:
    first, second = read_process_group({}, 2), read_process_group({"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_NODES": "1"}, 2)

    assert (first.address, first.n_nodes, first.node) == ("127.0.0.1", 1, 0)
    assert (second.address, second.n_nodes, second.node) == ("127.0.0.1", 1, 0)


def test_a_list_that_does_not_match_the_number_of_nodes_is_an_error() -> None:
    with pytest.raises(InputError, match=r"SLURM_STEP_NODELIST names 2 nodes, SLURM_STEP_NUM_NODES is 3"):
        read_process_group({**IN_SLURM, "SLURM_STEP_NODELIST": "n[1-2]"}, 1)


def test_ports_differ_between_jobs_and_stay_below_those_the_kernel_hands_out() -> None:
    assert port_of("1") != port_of("2")
    assert FIRST_PORT <= port_of(str(10**9 + 7)) < FIRST_PORT + N_PORTS < 32_768


def test_a_process_without_a_rank_is_alone() -> None:
    assert read_rank({}) == Rank(index=0, n_ranks=1, local_index=0, n_local=1, node=0)
    assert Rank().is_first
    assert Rank().reads_energy
