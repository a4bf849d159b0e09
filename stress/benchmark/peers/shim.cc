// SPDX-License-Identifier: MIT OR Apache-2.0
// The repaired monitor of container shims: subscribers in a map, found by topic in another, one
// mutex held while an event is sent to all of them over unbounded channels. That gives strict FIFO
// and no delivery after unsubscribe, as exitbus does.
#include "../peers.h"
#include "all.h"

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace
{

constexpr unsigned ANY_PID = 0;

struct channel {
    std::mutex lock;
    std::condition_variable not_empty;
    std::deque<struct event> events;

    void send(const struct event &event)
    {
        {
            std::lock_guard<std::mutex> hold(lock);
            events.push_back(event);
        }
        not_empty.notify_one();
    }

    size_t receive(struct event *to, size_t capacity)
    {
        std::lock_guard<std::mutex> hold(lock);
        size_t count = std::min(capacity, events.size());
        std::copy_n(events.begin(), count, to);
        events.erase(events.begin(), events.begin() + static_cast<std::ptrdiff_t>(count));
        return count;
    }

    void wait(struct event *to)
    {
        std::unique_lock<std::mutex> hold(lock);
        not_empty.wait(hold, [this] { return !events.empty(); });
        *to = events.front();
        events.pop_front();
    }
};

struct subscriber {
    unsigned topic;
    std::shared_ptr<channel> to;
};

struct monitor {
    std::mutex lock;
    uint64_t last_id = 0;
    std::unordered_map<uint64_t, subscriber> subscribers;
    std::unordered_map<unsigned, std::vector<uint64_t>> by_topic;
    std::vector<std::shared_ptr<channel>> channels; // of the measurement's own subscriptions
    bool one_pid = false;

    uint64_t subscribe(unsigned topic, std::shared_ptr<channel> to)
    {
        std::lock_guard<std::mutex> hold(lock);
        subscribers.emplace(++last_id, subscriber{topic, std::move(to)});
        by_topic[topic].push_back(last_id);
        return last_id;
    }

    void unsubscribe(uint64_t id)
    {
        std::lock_guard<std::mutex> hold(lock);
        auto found = subscribers.find(id);
        auto topic = by_topic.find(found->second.topic);
        auto &ids = topic->second;
        ids.erase(std::find(ids.begin(), ids.end(), id));
        if (ids.empty())
            by_topic.erase(topic);
        subscribers.erase(found);
    }

    void notify(unsigned topic, const struct event &event)
    {
        auto found = by_topic.find(topic);
        if (found == by_topic.end())
            return;
        for (uint64_t id : found->second)
            subscribers.find(id)->second.to->send(event);
    }

    void publish(unsigned pid, const struct event &event)
    {
        std::lock_guard<std::mutex> hold(lock);
        notify(pid, event);
        notify(ANY_PID, event);
    }
};

void *create(const struct shape *shape)
{
    auto *bus = new monitor;
    bus->one_pid = shape->one_pid;
    for (unsigned i = 0; i < shape->subscriptions; i++) {
        bus->channels.push_back(std::make_shared<channel>());
        bus->subscribe(shape->one_pid ? i + 1 : ANY_PID, bus->channels.back());
    }
    return bus;
}

void destroy(void *bus)
{
    delete static_cast<monitor *>(bus);
}

void *end_open(void *bus)
{
    return bus;
}

void end_close(void *)
{
}

void publish(void *opaque, uint64_t first, unsigned count)
{
    auto *bus = static_cast<monitor *>(opaque);
    struct event event = {0, {1, 1, 1, 1, 1, 1, 1}};
    for (uint64_t number = first; number < first + count; number++) {
        event.number = number;
        unsigned pid = bus->one_pid ? static_cast<unsigned>(number % bus->channels.size()) + 1 : 1;
        bus->publish(pid, event);
    }
}

unsigned receive(void *opaque, unsigned subscription, unsigned limit, uint64_t *sum)
{
    auto *bus = static_cast<monitor *>(opaque);
    struct event events[RECEIVE_BATCH];
    unsigned taken = 0;
    while (taken < limit) {
        size_t wanted = std::min<size_t>(limit - taken, RECEIVE_BATCH);
        size_t count = bus->channels[subscription]->receive(events, wanted);
        if (count == 0)
            break;
        __asm__ volatile("" : : "r"(events) : "memory");
        for (size_t i = 0; i < count; i++)
            *sum += events[i].number;
        taken += static_cast<unsigned>(count);
    }
    return taken;
}

void wait_one(void *opaque, unsigned subscription)
{
    struct event event;
    static_cast<monitor *>(opaque)->channels[subscription]->wait(&event);
    __asm__ volatile("" : : "r"(&event) : "memory");
}

constexpr unsigned CHURN_PID_FIRST = 1000000, CHURN_PIDS = 4096;

void churn(void *opaque, unsigned count)
{
    auto *bus = static_cast<monitor *>(opaque);
    for (unsigned i = 0; i < count; i++)
        bus->unsubscribe(
            bus->subscribe(CHURN_PID_FIRST + i % CHURN_PIDS, std::make_shared<channel>()));
}

} // namespace

const struct peer shim_peer = {"shim",
                               "a shim's monitor: maps under a mutex that is held while sending",
                               PEER_FIFO | PEER_TOPICS,
                               create,
                               destroy,
                               end_open,
                               end_close,
                               end_open,
                               end_close,
                               publish,
                               receive,
                               wait_one,
                               churn};
