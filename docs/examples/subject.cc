/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A monitor in C++ for exitbus-stress: a template for one with an event type of its own, which here
 * is Exit. See docs/subjects.md.
 */
#include <exitbus-stress/subject.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <new>

namespace {

/* The monitor's own event, and what stands in it for the event of exitbus-stress. */
struct Exit {
    int pid;
    int status;
    void *packed;
};

struct Subscription {
    subject_topic topic;
    std::deque<Exit> queue;
    std::condition_variable changed;
    bool closed = false;
};

/* The monitor under test: put yours in its place. */
struct Monitor {
    const subject_host *host;
    std::mutex lock;
    std::list<std::shared_ptr<Subscription>> subscriptions;
};

/* A handle: what the engine holds. */
struct Handle {
    Monitor *monitor;
    std::shared_ptr<Subscription> subscription;
};

int create(const subject_host *host, void **bus)
{
    *bus = new (std::nothrow) Monitor{host, {}, {}};
    return *bus ? 0 : -ENOMEM;
}

int destroy(void *bus)
{
    delete static_cast<Monitor *>(bus);
    return 0;
}

int publish(void *bus, const subject_event *events, size_t, uint64_t *first_seq)
try {
    auto *monitor = static_cast<Monitor *>(bus);
    Exit exit = {events->pid, events->status, monitor->host->pack(events)};
    std::lock_guard<std::mutex> hold(monitor->lock);
    for (auto &subscription : monitor->subscriptions)
        if (subject_matches(&subscription->topic, events)) {
            subscription->queue.push_back(exit);
            subscription->changed.notify_one();
        }
    *first_seq = 0; /* it has no numbers of its own */
    return 0;
} catch (const std::bad_alloc &) {
    return -ENOMEM;
}

int subscribe(void *bus, const subject_topic *topic, uint32_t, void **subscription)
try {
    auto *monitor = static_cast<Monitor *>(bus);
    auto handle = std::make_unique<Handle>();
    handle->monitor = monitor;
    handle->subscription = std::make_shared<Subscription>();
    handle->subscription->topic = *topic;
    std::lock_guard<std::mutex> hold(monitor->lock);
    monitor->subscriptions.push_back(handle->subscription);
    *subscription = handle.release();
    return 0;
} catch (const std::bad_alloc &) {
    return -ENOMEM;
}

int unsubscribe(void *subscription)
{
    std::unique_ptr<Handle> handle(static_cast<Handle *>(subscription));
    std::lock_guard<std::mutex> hold(handle->monitor->lock);
    handle->monitor->subscriptions.remove(handle->subscription);
    handle->subscription->closed = true;
    handle->subscription->changed.notify_all();
    return 0;
}

ssize_t receive(void *subscription, subject_event *events, size_t, int64_t timeout_ns)
{
    auto *handle = static_cast<Handle *>(subscription);
    auto mine = handle->subscription;
    std::unique_lock<std::mutex> hold(handle->monitor->lock);
    auto ready = [&] { return mine->closed || !mine->queue.empty(); };
    if (timeout_ns < 0)
        mine->changed.wait(hold, ready);
    else if (!mine->changed.wait_for(hold, std::chrono::nanoseconds(timeout_ns), ready))
        return timeout_ns == 0 ? -EAGAIN : -ETIMEDOUT;
    if (mine->closed)
        return -ESHUTDOWN;
    handle->monitor->host->unpack(mine->queue.front().packed, events);
    mine->queue.pop_front();
    return 1;
}

subject make()
{
    subject made = {};
    made.abi = SUBJECT_ABI;
    made.name = "cxx";
    made.summary = "a monitor in C++ with an event type of its own";
    made.claims = SUBJECT_G1 | SUBJECT_TOTAL_ORDER;
    made.features = SUBJECT_WAITS;
    made.topics = SUBJECT_TOPICS_ALL;
    made.create = create;
    made.destroy = destroy;
    made.publish = publish;
    made.subscribe = subscribe;
    made.unsubscribe = unsubscribe;
    made.receive = receive;
    return made;
}

} // namespace

extern const struct subject exitbus_stress_subject = make();
