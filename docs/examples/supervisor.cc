/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Runs shell commands side by side, and prints the exit code of each when it ends. On SIGTERM or
 * SIGINT all are ended: first by SIGTERM, and those that are left after five seconds by SIGKILL.
 *
 *     c++ -std=c++17 supervisor.cc $(pkg-config --cflags --libs exitbus) -o supervisor
 *     ./supervisor 'exit 3' 'sleep 1'
 */
#include <exitbus/exitbus.hpp>

#include <csignal>
#include <cstdio>
#include <map>
#include <pthread.h>
#include <string>
#include <thread>

using namespace std::chrono_literals;

int main(int argc, char *argv[])
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr); /* also in the thread below */

    exit_bus::bus bus;
    exit_bus::subscription exits(bus, exit_bus::any_pid()); /* before there are children */
    auto all = exit_bus::group::of_set(bus, "all");
    std::map<pid_t, std::string> commands;
    for (int i = 1; i < argc; i++) {
        auto child = exit_bus::process::run(bus, {"/bin/sh", "-c", argv[i]});
        commands[child.pid()] = argv[i];
        all.add(child);
    }
    std::thread([all, signals] {
        int signal;
        while (sigwait(&signals, &signal) == 0)
            all.end(SIGTERM, 5s);
    }).detach();
    while (!commands.empty()) {
        auto exit = exits.receive();
        std::printf("%s: %d\n", commands[exit->pid].c_str(), exit->exit_code);
        commands.erase(exit->pid);
    }
}
